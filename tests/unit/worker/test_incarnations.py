"""A fenced worker continues as a new incarnation with another id."""

from __future__ import annotations

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_store.schema import WORKERS
from streamer_worker.events import (
    RequestFinished,
    RequestStarted,
    StepFailed,
    WorkerFenced,
    WorkerStarted,
    WorkerStopped,
)
from unit.worker.harness import Waiting, World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]


async def _fence(world: World) -> str:
    """Remove the worker's row, wait until the worker is fenced, and return its id."""
    (row,) = await world.stores.workers.list()
    await world.stores.workers.remove(row.worker_id)
    (fenced,) = await world.recorder.wait_for(WorkerFenced)
    assert fenced.worker_id == row.worker_id
    return row.worker_id


async def test_a_worker_without_a_row_starts_a_new_incarnation(world: World) -> None:
    """Its request is released and runs again. Both worker ids are in the events."""
    waiting = Waiting()
    async with running(world.app([waiting.handler, echo])):
        request = await world.enqueue("wait", max_retries=1)
        await world.recorder.wait_for(RequestStarted)
        first = await _fence(world)
        await world.recorder.wait_for(RequestStarted, 2)
        waiting.go.set()
        await world.recorder.wait_for(RequestFinished, 2)
        started = [event.worker_id for event in world.recorder.of(WorkerStarted)]
        assert started[0] == first
        assert len(set(started)) == len(started) == 2
    stored = await world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.COMPLETED, 0)
    assert stored.rescues == 0
    assert stored.worker_id == started[1]
    assert waiting.cancelled == 1
    assert [event.worker_id for event in world.recorder.of(WorkerStopped)] == [started[1]]


async def test_a_request_that_starves_its_worker_fails(world: World) -> None:
    """Without retries it fails with WORKER_LOST."""
    waiting = Waiting()
    world.cpu = anyio.current_time
    async with running(world.app([waiting.handler])):
        request = await world.enqueue("wait", max_retries=0)
        await world.recorder.wait_for(RequestStarted)
        await _fence(world)
        await world.recorder.wait_for(RequestFinished)
    stored = await world.get(request)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "WORKER_LOST")


async def test_starvation_counts_as_a_rescue(world: World) -> None:
    """The loss is counted as a rescue, and no attempt is used, not even the last one."""
    waiting = Waiting()
    world.cpu = anyio.current_time
    async with running(world.app([waiting.handler])):
        request = await world.enqueue("wait", max_retries=1, retry_count=1)
        await world.recorder.wait_for(RequestStarted)
        await _fence(world)
        (finished,) = await world.recorder.wait_for(RequestFinished)
        stored = await world.get(request)
        waiting.go.set()
        await world.recorder.wait_for(RequestFinished, 2)
    assert (finished.outcome, finished.code, finished.will_retry) == (
        "rescued",
        "WORKER_LOST",
        True,
    )
    assert (stored.retry_count, stored.rescues, stored.solo) == (1, 1, 0)
    assert (await world.get(request)).status is RequestStatus.COMPLETED
    (fenced,) = world.recorder.of(WorkerFenced)
    assert not fenced.paused


async def test_a_rescued_request_is_not_written_by_the_fenced_worker(world: World) -> None:
    """The outcome of the old claim is `claim_lost`, and the new claim is unchanged."""
    waiting = Waiting()
    async with running(world.app([waiting.handler])):
        request = await world.enqueue("wait", max_retries=5)
        await world.recorder.wait_for(RequestStarted)
        candidate = await world.candidate(request, RequestStatus.PROCESSING)
        await world.stores.requests.rescue(candidate, error="gone", code="WORKER_LOST")
        stolen = await world.stores.requests.claim(
            await world.candidate(request, RequestStatus.RETRYING), worker_id="other"
        )
        await _fence(world)
        (finished,) = await world.recorder.wait_for(RequestFinished)
        assert finished.outcome == "claim_lost"
        assert (await world.get(request)).version == stolen.version


async def test_nothing_is_claimed_before_the_row_is_written(world: World) -> None:
    """A sweep would take the requests of a worker that has no row. Proves LEASE-1."""
    request = await world.enqueue()
    fault = world.engine.hold("put", when=lambda put: put.table is WORKERS)
    app = world.app([echo])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await anyio.sleep(60)
        assert (await world.get(request)).status is RequestStatus.PENDING
        fault.let_go()
        await world.recorder.wait_for(RequestFinished)
        app.stop()
    assert (await world.get(request)).status is RequestStatus.COMPLETED


async def test_nothing_is_claimed_or_rescued_while_heartbeats_fail(world: World) -> None:
    """Other workers may soon declare this one dead. It continues when they succeed again.

    Proves LEASE-5.
    """
    async with running(world.app([echo])):
        await anyio.sleep(5)
        world.engine.fail("update", when=lambda update: update.table is WORKERS, times=10**6)
        await anyio.sleep(10)
        orphan = await world.enqueue(max_retries=1)
        await world.stores.requests.claim(await world.candidate(orphan), worker_id="gone")
        waiting = await world.enqueue()
        await anyio.sleep(60)
        assert (await world.get(orphan)).status is RequestStatus.PROCESSING
        assert (await world.get(waiting)).status is RequestStatus.PENDING
        world.engine.heal()
        await world.recorder.wait_for(RequestFinished, 2)
    for request in (orphan, waiting):
        assert (await world.get(request)).status is RequestStatus.COMPLETED


async def test_the_next_incarnation_waits_for_the_table(world: World) -> None:
    """Each failed registration emits StepFailed. The worker runs again after the outage."""
    async with running(world.app([echo])):
        await anyio.sleep(1)
        world.engine.fail("put", when=lambda put: put.table is WORKERS, times=3)
        await _fence(world)
        await world.recorder.wait_for(WorkerStarted, 2)
        await world.enqueue("echo")
        (finished,) = await world.recorder.wait_for(RequestFinished)
    assert finished.outcome == "completed"
    failed = [event.loop for event in world.recorder.of(StepFailed)]
    assert failed.count("register") == 3


async def test_a_stop_during_registration_ends_the_worker(world: World) -> None:
    """A worker that cannot register its row stops at once."""
    app = world.app([echo])
    with anyio.fail_after(60):
        async with running(app):
            await anyio.sleep(1)
            world.engine.fail("put", when=lambda put: put.table is WORKERS, times=10**6)
            await _fence(world)
            await world.recorder.wait_for(StepFailed)
