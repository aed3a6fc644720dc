"""Requests that a worker remembers between polls, and requests that it holds already."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from streamer_store import WorkerRow
from streamer_worker.events import ClaimTried
from streamer_worker.fleet.view import FleetView
from support import START
from unit.worker.benches import PollBench, enqueue
from unit.worker.harness import World, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
PAGE = 4
FLEET = FleetView(
    worker_id="me",
    live=tuple(
        WorkerRow(worker_id=name, started_at=START, actions=frozenset({"echo"}))
        for name in ("me", "other")
    ),
)
NAMES = [f"request-{number}" for number in range(200)]


def of_rank(rank: int, times: int) -> list[str]:
    """Return ids of requests for which this worker has the rank."""
    return [name for name in NAMES if FLEET.rank(name, "echo") == rank][:times]


@pytest.mark.parametrize(("rank", "rescues"), [(0, 2), (1, 0)], ids=["suspects", "others'"])
async def test_the_backlog_has_no_room_for_suspects_and_requests_of_others(
    rank: int, rescues: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not displace a request of the same tenant that this worker may run now."""
    monkeypatch.setattr("streamer_worker.intake.poller._MIN_PAGE_SIZE", PAGE)
    monkeypatch.setattr("streamer_worker.intake.poller._PER_SLOT", 0)
    monkeypatch.setattr("streamer_worker.intake.backlog._MAX_PER_GROUP", 1)
    bench = PollBench(world, slots=1)
    bench.fleet = FLEET
    own = of_rank(0, 50)
    for name in own[:9] if rescues else of_rank(rank, 9):
        await world.enqueue(request_id=name, tenant_id="small", rescues=rescues)
    assert await bench.poll() == []
    await anyio.sleep(2)
    for number, name in enumerate(own[10:40]):
        created = world.clock.now() - timedelta(hours=1, seconds=-number)
        await world.enqueue(request_id=name, tenant_id="large", created_at=created)
    await world.enqueue(request_id=own[9], tenant_id="small")
    assert await bench.poll() == [own[10]]  # this poll reads the whole index
    assert await bench.poll() == [own[9]]
    bench.close()


async def test_a_request_that_this_worker_holds_is_not_claimed(
    world: World, bench: PollBench
) -> None:
    """It was cancelled and redriven while its handler runs: it waits until that has ended."""
    (request_id,) = await enqueue(world, 1)
    await bench.poller.step()
    (assignment,) = bench.assignments()
    await world.stores.requests.cancel(request_id)
    await world.stores.requests.redrive(request_id)
    assert await bench.poll() == []
    assert len(world.recorder.of(ClaimTried)) == 1
    bench.slots.release(assignment.slot)
    assert await bench.poll() == [request_id]


async def test_a_deferred_retry_is_claimed_once(world: World, bench: PollBench) -> None:
    """After its claim the poller forgets it, so that the old Version is not tried again."""
    claim = await world.claim()
    await world.stores.requests.retry(claim, timedelta(seconds=5), counts=False)
    assert await bench.poll() == []
    await anyio.sleep(5)
    assert await bench.poll() == [claim.request_id]
    assert await bench.poll() == []
    assert [event.outcome for event in world.recorder.of(ClaimTried)] == ["won"]
