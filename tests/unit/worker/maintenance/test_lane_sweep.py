"""Finding requests that wait for later without a lane, and who looks for them."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import AsyncRequest, Lane, RequestStatus, WorkerRow
from streamer_store.engine import Put, Update
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS
from streamer_store.stores import stores_over
from streamer_worker.fleet.view import FleetView
from streamer_worker.maintenance.lane_sweep import LaneSweep, SweepCounts
from support import START, ManualClock, make_runtime
from unit.worker.benches import membership

pytestmark = pytest.mark.anyio

ME = WorkerRow(worker_id="me", started_at=START, lanes=True)
OLDER = WorkerRow(worker_id="older", started_at=START - timedelta(hours=1))
NEWER = WorkerRow(worker_id="newer", started_at=START + timedelta(hours=1), lanes=True)
NOTHING = SweepCounts(waiting=0, corrected=0)


class Bench:
    """The sweep of a worker on stores in memory. It leads at first, and is alone."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.engine = MemoryEngine(page_items=1000)
        self.stores = stores_over(self.engine, clock=clock, rng=random.Random(7))
        self.membership = membership(FleetView(worker_id="me", live=(ME,), leads=True))
        self.sweep = LaneSweep(
            requests=self.stores.requests,
            membership=self.membership,
            runtime=make_runtime(lambda _: None, clock=clock),
        )

    def see(self, *live: WorkerRow, leads: bool = False) -> None:
        view = self.membership.view
        self.membership.on_fleet_view(replace(view, live=live, leads=leads))

    async def stray(self, request_id: str, *, priority: str | None = None, **more: Any) -> None:
        """Make a request RETRYING as an older release does: without a lane."""
        item = {
            "RequestID": {"S": request_id},
            "Status": {"S": "RETRYING"},
            "CreatedAt": {"S": "2026-03-14T12:00:00.000000Z"},
            "RetryAfter": {"S": "2026-03-14T13:00:00.000000Z"},
            "Action": {"S": "echo"},
            "Version": {"S": f"v{request_id}"},
            **({"Priority": {"S": priority}} if priority else {}),
            **more,
        }
        await self.engine.put(Put(table=REQUESTS, item=item))

    async def retrying(self, request_id: str) -> None:
        requests = self.stores.requests
        await requests.enqueue(AsyncRequest(action="echo", request_id=request_id))
        (claim,) = await requests.dequeue(1)
        await requests.retry(claim, timedelta(days=1))

    async def lane(self, lane: Lane) -> list[str]:
        until = self.clock.now() + timedelta(days=365)
        page = await self.stores.requests.due_entries(lane, until=until, limit=1000)
        assert page is not None
        return sorted(entry.request_id for entry in page.candidates)


@pytest.fixture
def bench(clock: ManualClock) -> Bench:
    return Bench(clock)


async def test_requests_without_a_lane_get_one(bench: Bench) -> None:
    """By their priority. Those that stand in their lane are not written."""
    await bench.stray("a")
    await bench.stray("b", priority="low")
    await bench.retrying("c")
    before = await bench.engine.get(REQUESTS, "c")
    assert await bench.sweep.step() == SweepCounts(waiting=3, corrected=2)
    assert (await bench.lane(Lane.DUE), await bench.lane(Lane.LOW)) == (["a", "c"], ["b"])
    assert await bench.engine.get(REQUESTS, "c") == before


async def test_an_entry_that_stands_too_late_is_corrected(bench: Bench) -> None:
    """Pollers would not meet it before that time."""
    await bench.retrying("a")
    late = {"DueAt": {"S": "2099-01-01T00:00:00.000000Z"}}
    await bench.engine.update(Update(table=REQUESTS, key="a", sets=late))
    assert await bench.sweep.step() == SweepCounts(waiting=1, corrected=1)
    item = await bench.engine.get(REQUESTS, "a")
    assert item is not None
    assert item["DueAt"] == item["RetryAfter"]


async def test_many_pages_are_compared(bench: Bench) -> None:
    for number in range(2500):
        await bench.stray(f"r{number}")
    assert await bench.sweep.step() == SweepCounts(waiting=2500, corrected=2500)
    bench.clock.advance(3600)
    assert await bench.sweep.step() == SweepCounts(waiting=2500, corrected=0)


async def test_the_leader_sweeps_at_once_and_every_hour(bench: Bench) -> None:
    assert await bench.sweep.step() == NOTHING
    bench.clock.advance(3599)
    assert await bench.sweep.step() is None
    bench.clock.advance(1)
    assert await bench.sweep.step() == NOTHING


async def test_many_that_wait_are_compared_more_rarely(bench: Bench) -> None:
    """What waits for later costs as much for 1,000 requests as for 100,000."""
    lane: dict[str, Any] = {"DueLane": {"S": "due"}, "DueAt": {"S": "2026-03-14T13:00:00.000000Z"}}
    for number in range(10_000):
        await bench.stray(f"r{number}", **lane)
    await bench.sweep.step()
    bench.clock.advance(5999)
    assert await bench.sweep.step() is None
    bench.clock.advance(1)
    assert await bench.sweep.step() is not None


async def test_beside_an_older_release_it_is_every_minute(bench: Bench) -> None:
    """That release retries and rescues requests without a lane."""
    await bench.sweep.step()
    bench.see(ME, replace(OLDER, started_at=START + timedelta(hours=1)), leads=True)
    assert await bench.sweep.step() is None
    bench.clock.advance(60)
    assert await bench.sweep.step() == NOTHING
    bench.clock.advance(59)
    assert await bench.sweep.step() is None


async def test_the_end_of_the_last_older_worker_is_followed_by_sweeps(bench: Bench) -> None:
    """Its last retries are found at once, and those of a paused one for an hour."""
    bench.see(ME, OLDER, leads=True)
    assert await bench.sweep.step() == NOTHING
    bench.clock.advance(5)
    await bench.stray("a")
    bench.see(ME, leads=True)
    assert await bench.sweep.step() == SweepCounts(waiting=1, corrected=1)
    for _ in range(58):
        bench.clock.advance(60)
        await bench.sweep.step()
    await bench.stray("b")
    bench.clock.advance(60)
    assert await bench.sweep.step() == SweepCounts(waiting=2, corrected=1)
    bench.clock.advance(3599)
    assert await bench.sweep.step() is None


async def test_a_worker_that_leads_after_an_older_one_sweeps_at_once(bench: Bench) -> None:
    """It was not the one to sweep before."""
    bench.see(OLDER, NEWER, ME)
    assert await bench.sweep.step() is None
    await bench.stray("a")
    bench.see(ME, leads=True)
    assert await bench.sweep.step() == SweepCounts(waiting=1, corrected=1)
    bench.clock.advance(60)
    assert await bench.sweep.step() == SweepCounts(waiting=1, corrected=0)


async def test_if_an_older_release_leads_the_oldest_with_lanes_sweeps(bench: Bench) -> None:
    """The leader's release does not know that there is something to sweep."""
    bench.see(OLDER, ME, NEWER)
    assert await bench.sweep.step() == NOTHING
    bench.clock.advance(60)
    bench.see(OLDER, replace(NEWER, started_at=START - timedelta(minutes=1)), ME)
    assert await bench.sweep.step() is None


@pytest.mark.parametrize("live", [(ME,), (NEWER, ME), (replace(OLDER, draining=True), NEWER, ME)])
async def test_another_worker_does_not_sweep(bench: Bench, live: tuple[WorkerRow, ...]) -> None:
    bench.see(*live)
    assert await bench.sweep.step() is None


async def test_a_worker_that_leads_again_sweeps_at_once(bench: Bench) -> None:
    await bench.sweep.step()
    bench.see(NEWER, ME)
    await bench.sweep.step()
    bench.see(ME, leads=True)
    assert await bench.sweep.step() == NOTHING


async def test_a_table_without_the_index_is_not_swept(bench: Bench) -> None:
    """Once it has the index, it is swept at once."""
    bench.engine.missing_indexes = {"DueIndex"}
    await bench.stray("a")
    assert await bench.sweep.step() is None
    bench.engine.missing_indexes = set()
    bench.clock.advance(300)
    assert await bench.sweep.step() == SweepCounts(waiting=1, corrected=1)
    assert (await bench.stores.requests.get("a")).status is RequestStatus.RETRYING
