"""How the leader counts what waits and runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from streamer_store import AsyncRequest, RequestStatus, Stores, memory_stores
from streamer_worker.events import Event, Events, QueueMeasured
from streamer_worker.maintenance.queue_depth import DepthGauge
from streamer_worker.settings import DepthSettings
from support import ManualClock

pytestmark = pytest.mark.anyio


@dataclass
class Bench:
    """A gauge on stores in memory; `turns` says for how many more questions it leads."""

    clock: ManualClock
    stores: Stores
    turns: int = 1000
    told: list[Event] = field(default_factory=list)

    def gauge(self, *, limit: int = 10_000) -> DepthGauge:
        return DepthGauge(
            requests=self.stores.requests,
            settings=DepthSettings(interval=15, limit=limit),
            leads=self._leads,
            events=Events(self.told.append),
            clock=self.clock,
        )

    def _leads(self) -> bool:
        self.turns -= 1
        return self.turns >= 0


@pytest.fixture
def bench(clock: ManualClock, rng: random.Random) -> Bench:
    return Bench(clock, memory_stores(clock=clock, rng=rng, report=lambda _: None))


async def _enqueue(bench: Bench, count: int) -> None:
    for _ in range(count):
        await bench.stores.requests.enqueue(AsyncRequest(action="echo"))
        bench.clock.advance(1)


async def test_each_status_is_counted_with_the_age_of_its_oldest(bench: Bench) -> None:
    """Empty ones, too: a graph shall go down to nothing."""
    await _enqueue(bench, 3)
    await bench.stores.requests.dequeue(1)
    gauge = bench.gauge()
    counts = await gauge.step()
    assert bench.told == [
        QueueMeasured(status="PENDING", count=2, more=False, oldest=2.0),
        QueueMeasured(status="RETRYING", count=0, more=False, oldest=None),
        QueueMeasured(status="PROCESSING", count=1, more=False, oldest=3.0),
    ]
    assert gauge.pause(counts) == 15


async def test_counting_ends_at_the_limit(bench: Bench) -> None:
    """A backlog of millions is not read through every few seconds."""
    await _enqueue(bench, 5)
    await bench.gauge(limit=4).step()
    assert bench.told[0] == QueueMeasured(status="PENDING", count=4, more=True, oldest=5.0)


async def test_only_the_leader_counts(bench: Bench) -> None:
    """The others ask again soon: one of them may lead then."""
    bench.turns = 0
    gauge = bench.gauge()
    counts = await gauge.step()
    assert counts is None
    assert bench.told == []
    assert gauge.pause(counts) == 5


async def test_who_stops_leading_meanwhile_tells_nothing_more(bench: Bench) -> None:
    """Its series are gone already, and would come back for ever."""
    bench.turns = 2
    assert await bench.gauge().step() is None
    assert [each.status for each in bench.told if isinstance(each, QueueMeasured)] == [
        RequestStatus.PENDING
    ]
