"""A page of the index is read once, and claimed from as slots are freed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from streamer_store import AccessDenied, StoreUnavailable, WorkerRow
from streamer_store.engine import Page, Query
from streamer_worker.concurrency.periodic import run_every
from streamer_worker.events import ClaimTried
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.slots import Assignment
from support import START
from unit.worker.benches import PollBench, enqueue
from unit.worker.faulty_engine import moves_to
from unit.worker.harness import World, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]


def reads(world: World) -> int:
    """Return how often the waiting requests were read since the calls were cleared."""
    return world.engine.calls.count("query PENDING")


async def test_a_page_is_read_once(world: World, bench: PollBench) -> None:
    """Ninety requests of 0.1 s each, ten at once: one read, and not 9."""
    await enqueue(world, 90)
    world.engine.calls.clear()
    began = anyio.current_time()

    async def run(assignment: Assignment) -> None:
        await anyio.sleep(0.1)
        bench.slots.release(assignment.slot)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(polling(bench))
        for _ in range(90):
            tasks.start_soon(run, await bench.receive.receive())
        assert reads(world) == 1
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - began == pytest.approx(0.8)


async def test_the_index_is_not_read_while_a_request_of_the_page_fits(
    world: World, narrow: PollBench
) -> None:
    """When the page is used up it is read again."""
    ids = await enqueue(world, 6)
    world.engine.calls.clear()
    assert [len(await narrow.poll()) for _ in range(3)] == [2, 2, 2]
    assert reads(world) == 1
    ids += await enqueue(world, 1)
    assert await narrow.poll() == ids[-1:]
    assert reads(world) == 2


async def test_a_page_older_than_a_second_is_read_again(world: World, narrow: PollBench) -> None:
    """A request that is older than those of the page then goes first."""
    ids = await enqueue(world, 6)
    await narrow.poll()
    await anyio.sleep(0.9)
    (older,) = await enqueue(world, 1)
    await world.stores.requests.cancel(older)
    assert sorted(await narrow.poll()) == sorted(ids[2:4])
    tenant = await world.enqueue(tenant_id="another")
    await anyio.sleep(0.2)
    assert tenant.request_id in await narrow.poll()


async def test_a_page_is_read_again_after_a_lost_claim(world: World, narrow: PollBench) -> None:
    """Other workers claim the same requests. Later pages are used for a shorter time."""
    ids = await enqueue(world, 30)
    world.engine.calls.clear()
    assert await narrow.poll() != []
    assert reads(world) == 1
    await world.stores.requests.cancel(ids[2])
    assert await narrow.poll() == [ids[3]]
    assert sorted(await narrow.poll()) == sorted(ids[4:6])
    assert reads(world) == 2
    await anyio.sleep(0.15)
    await narrow.poll()
    assert reads(world) == 3
    for age in (0.2, 0.4, 0.8, 1.0):
        await anyio.sleep(age - 0.01)
        before = reads(world)
        await narrow.poll()
        assert reads(world) == before
        await anyio.sleep(0.02)
        await narrow.poll()
        assert reads(world) == before + 1


async def test_a_page_is_read_again_when_the_fleet_has_changed(
    world: World, narrow: PollBench
) -> None:
    """A worker that has joined is the home of some of these requests now."""
    await enqueue(world, 40)
    await narrow.poll()
    narrow.fleet = fleet = FleetView(
        worker_id="me",
        live=tuple(
            WorkerRow(worker_id=name, started_at=START, actions=frozenset({"echo"}))
            for name in ("me", "other")
        ),
    )
    taken = [request_id for _ in range(5) for request_id in await narrow.poll()]
    assert len(taken) == 10
    assert {fleet.rank(request_id, "echo") for request_id in taken} == {0}


async def test_requests_homed_elsewhere_are_claimed_from_a_fresh_page_only(
    world: World, narrow: PollBench
) -> None:
    """Their home claims them at any time, so each wave of stolen requests has its own read."""
    rows = [
        WorkerRow(worker_id=name, started_at=START, actions=frozenset({"echo"}))
        for name in ("me", "other")
    ]
    narrow.fleet = fleet = FleetView(worker_id="me", live=tuple(rows))
    names = [f"r{number}" for number in range(40)]
    for name in [name for name in names if fleet.rank(name, "echo") == 1][:6]:
        await world.enqueue(request_id=name)
    assert await narrow.poll() == []
    await anyio.sleep(0.6)
    world.engine.calls.clear()
    for queries in (1, 2, 3):
        assert len(await narrow.poll()) == 2
        assert reads(world) == queries


async def test_nothing_of_the_page_is_claimed_while_heartbeats_fail(
    world: World, narrow: PollBench
) -> None:
    """Neither by the poll that is under way nor by the next one. Proves LEASE-5."""
    await enqueue(world, 6)
    fault = world.engine.hold("update", when=moves_to("PROCESSING"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(narrow.poller.step)
        await fault.wait_reached()
        await anyio.wait_all_tasks_blocked()
        (first,) = narrow.assignments()
        narrow.membership.on_heartbeat(-float("inf"))
        narrow.slots.release(first.slot)
        await anyio.wait_all_tasks_blocked()
        fault.let_go()
    assert len(narrow.assignments()) == 1
    assert await narrow.poll() == []
    assert len(world.recorder.of(ClaimTried)) == 2


async def test_an_own_claim_is_not_tried_again(world: World, narrow: PollBench) -> None:
    """The index may show it for some time after its end, under the Version that was claimed."""
    (request_id,) = await enqueue(world, 1)
    tables = world.engine.inner._tables
    stale = dict(tables["requests"])
    query = world.engine.inner.query

    async def lagging(asked: Query) -> Page:
        fresh, tables["requests"] = tables["requests"], stale
        try:
            return await query(asked)
        finally:
            tables["requests"] = fresh

    world.engine.inner.query = lagging  # type: ignore[assignment,method-assign]
    assert await narrow.poll() == [request_id]
    assert await narrow.poll() == []
    assert len(world.recorder.of(ClaimTried)) == 1


@pytest.mark.parametrize("error", [AccessDenied("no"), StoreUnavailable("away")])
async def test_failing_claims_are_not_repeated_without_pauses(
    error: Exception, world: World
) -> None:
    """However many requests the page has: one wave a pause, and the pauses grow."""
    bench = PollBench(world)
    await enqueue(world, 90)
    world.engine.fail("update", error, when=moves_to("PROCESSING"), times=10**6)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(polling(bench))
        await anyio.sleep(10)
        tasks.cancel_scope.cancel()
    tried = len(world.recorder.of(ClaimTried))
    assert 10 * 10 / 0.5 <= tried <= 10 * (10 / 0.25 + 5)
    assert bench.slots.used == 0
    bench.close()


async def test_lost_claims_are_not_followed_by_others_without_a_pause(
    world: World, narrow: PollBench
) -> None:
    """Workers that compete for the same requests back off."""
    ids = await enqueue(world, 20)
    fault = world.engine.hold("update", when=moves_to("PROCESSING"), times=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(narrow.poller.step)
        await fault.wait_reached()
        for request_id in ids:
            await world.stores.requests.cancel(request_id)
        fault.let_go()
    assert [event.outcome for event in world.recorder.of(ClaimTried)] == ["lost", "lost"]


async def test_a_poll_that_is_cancelled_while_it_waits_for_slots_ends(
    world: World, narrow: PollBench
) -> None:
    """Only the claims that were sent are awaited."""
    await enqueue(world, 6)
    fault = world.engine.hold("update", when=moves_to("PROCESSING"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(narrow.poller.step)
        await fault.wait_reached()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        for assignment in narrow.assignments():
            narrow.slots.release(assignment.slot)
        await wait_blocked()
        fault.let_go()
    assert len(narrow.assignments()) == 1
    assert narrow.slots.used == 1
    assert len(world.recorder.of(ClaimTried)) == 2


async def wait_blocked() -> None:
    with anyio.CancelScope(shield=True):
        await anyio.wait_all_tasks_blocked()


def polling(bench: PollBench) -> Callable[[], Coroutine[Any, Any, None]]:
    async def loop() -> None:
        poller = bench.poller
        await run_every(
            poller.pause, poller.step, name="poll", runtime=bench.world.runtime, sleep=poller.sleep
        )

    return loop
