"""Counting waiting requests whose action no live worker handles."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from streamer_store import AsyncRequest, Stores, WorkerRow, memory_stores
from streamer_worker.events import Event, UnhandledMeasured
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.maintenance.unhandled import UnhandledGauge
from streamer_worker.settings import DepthSettings
from support import START, ManualClock, make_runtime
from unit.worker.benches import membership

pytestmark = pytest.mark.anyio


@dataclass
class Bench:
    """The gauge of a leader on stores in memory."""

    clock: ManualClock
    stores: Stores
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.membership = membership(FleetView(worker_id="me", leads=True))
        self.seen_requests = SeenRequests(clock=self.clock)
        self.gauge = UnhandledGauge(
            requests=self.stores.requests,
            seen_requests=self.seen_requests,
            membership=self.membership,
            settings=DepthSettings(limit=3),
            runtime=make_runtime(self.events.append, clock=self.clock),
        )

    async def enqueue(self, action: str, count: int) -> None:
        for _ in range(count):
            await self.stores.requests.enqueue(AsyncRequest(action=action))
        self.seen_requests.note_unknown_action(action)


@pytest.fixture
def bench(clock: ManualClock, rng: random.Random) -> Bench:
    return Bench(clock, memory_stores(clock=clock, rng=rng, report=lambda _: None))


async def test_an_action_is_counted_after_a_minute(bench: Bench) -> None:
    """A deploy causes no alarm. Actions that a live worker lists are not counted."""
    await bench.enqueue("invoice", 2)
    await bench.stores.requests.enqueue(AsyncRequest(action="echo"))
    bench.clock.advance(59)
    assert await bench.gauge.step() == {}
    bench.clock.advance(1)
    assert await bench.gauge.step() == {"invoice": 2}
    assert bench.events == [
        UnhandledMeasured(counts={}),
        UnhandledMeasured(counts={"invoice": 2}),
    ]


async def test_a_minute_is_counted_from_the_last_worker_that_listed_it(bench: Bench) -> None:
    """However long ago the leader first saw a request of it."""
    await bench.enqueue("invoice", 1)
    bench.clock.advance(3600)
    listed = {"invoice": bench.clock.steady() - 30}
    bench.membership.on_fleet_view(FleetView(worker_id="me", leads=True, listed=listed))
    assert await bench.gauge.step() == {}
    bench.clock.advance(30)
    assert await bench.gauge.step() == {"invoice": 1}


async def test_an_action_that_is_listed_again_is_not_counted(bench: Bench) -> None:
    """Even if the poller has not met the action since."""
    await bench.enqueue("invoice", 1)
    bench.clock.advance(60)
    row = WorkerRow(worker_id="w2", started_at=START, actions=frozenset({"invoice"}))
    bench.membership.on_fleet_view(FleetView(worker_id="me", leads=True, live=(row,)))
    assert await bench.gauge.step() == {}
    assert bench.seen_requests.unknown_actions() == []


async def test_an_action_without_requests_is_forgotten(bench: Bench) -> None:
    """They were cancelled or failed. The index is not read for it any more."""
    await bench.enqueue("invoice", 0)
    bench.clock.advance(60)
    assert await bench.gauge.step() == {}
    assert bench.seen_requests.unknown_actions() == []


async def test_the_count_is_bounded(bench: Bench) -> None:
    """At most `depth.limit` entries of each status are read."""
    await bench.enqueue("invoice", 5)
    bench.clock.advance(60)
    assert await bench.gauge.step() == {"invoice": 3}


async def test_only_the_leader_counts(bench: Bench) -> None:
    """Because each count costs read units."""
    await bench.enqueue("invoice", 1)
    bench.clock.advance(60)
    bench.membership.on_fleet_view(FleetView(worker_id="me"))
    assert await bench.gauge.step() is None
    assert bench.events == []
