"""How a worker shuts down."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_worker import Context, handler
from streamer_worker.app import App
from streamer_worker.events import (
    ClaimTried,
    RequestFinished,
    RequestStarted,
    SettleDelayed,
    StepFailed,
    WorkerDraining,
    WorkerStarted,
    WorkerStopped,
)
from streamer_worker.settings import HandlerSettings, PresenceSettings
from unit.worker.faulty_engine import PATIENCE, is_request, moves_to
from unit.worker.harness import Waiting, World, echo, pause_process, virtual_time

pytestmark = pytest.mark.anyio


async def test_stop_lets_running_handlers_finish(world: World) -> None:
    """Their results are stored, and no new request is claimed meanwhile."""
    waiting = Waiting()
    request = await world.enqueue("wait")
    app = world.app([waiting.handler, echo])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        app.stop()
        (draining,) = await world.recorder.wait_for(WorkerDraining)
        late = await world.enqueue()
        await anyio.wait_all_tasks_blocked()
        waiting.go.set()
    assert draining.in_flight == 1
    assert (await world.get(request)).result == {"data": "waited"}
    assert waiting.cancelled == 0
    assert (await world.get(late)).status is RequestStatus.PENDING


async def test_an_idle_worker_ends_at_once(world: World) -> None:
    """It does not wait for the drain timeout if no handler runs."""
    app = world.app([echo], drain_timeout=3600.0)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            await tasks.start(app.run)
            app.stop()
    assert len(world.recorder.of(WorkerStopped)) == 1


async def test_stopped_before_it_runs_it_ends_at_once(world: World) -> None:
    """`run` returns at once if `stop` was called before it."""
    request = await world.enqueue()
    app = world.app([echo])
    app.stop()
    with anyio.fail_after(PATIENCE):
        await app.run()
    assert (await world.get(request)).status in {RequestStatus.PENDING, RequestStatus.COMPLETED}


@virtual_time
async def test_the_drain_timeout_releases_the_rest(world: World) -> None:
    """After it, unfinished requests are PENDING again without a used attempt. Proves DRAIN-1."""
    waiting = Waiting()

    @handler("slow")
    async def slow(_payload: dict[str, Any], _ctx: Context) -> str:
        await anyio.sleep(20)
        return "done"

    stuck, finishing = await world.enqueue("wait"), await world.enqueue("slow")
    app = world.app([waiting.handler, slow], drain_timeout=25.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted, 2)
        began = anyio.current_time()
        app.stop()
    assert anyio.current_time() - began == pytest.approx(25, abs=1)
    released = await world.get(stuck)
    assert (released.status, released.retry_count) == (RequestStatus.PENDING, 0)
    assert released.worker_id is None
    assert (await world.get(finishing)).status is RequestStatus.COMPLETED
    assert waiting.cancelled == 1


@virtual_time
async def test_a_handler_that_fails_on_cancellation_is_released(world: World) -> None:
    """An exception that our cancellation caused does not use an attempt."""

    @handler("clumsy")
    async def clumsy(_payload: dict[str, Any], _ctx: Context) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise RuntimeError("cleaning up failed")

    request = await world.enqueue("clumsy")
    app = world.app([clumsy], drain_timeout=1.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        app.stop()
    assert (await world.get(request)).status is RequestStatus.PENDING


async def test_a_second_stop_skips_the_wait(world: World) -> None:
    """Handlers are cancelled at once, and their requests are released."""
    waiting = Waiting()
    request = await world.enqueue("wait")
    app = world.app([waiting.handler], drain_timeout=3600.0)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app.run)
            await world.recorder.wait_for(RequestStarted)
            app.stop()
            await world.recorder.wait_for(WorkerDraining)
            await anyio.wait_all_tasks_blocked()
            assert waiting.cancelled == 0
            app.stop()
    assert waiting.cancelled == 1
    assert (await world.get(request)).status is RequestStatus.PENDING


@virtual_time
async def test_a_signal_after_a_drain_request_is_the_first(world: World) -> None:
    """A supervisor's signal after `drain` does not skip waiting for handlers."""
    waiting = Waiting()
    request = await world.enqueue("wait")
    app = world.app([waiting.handler], drain_timeout=3600.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        (row,) = await world.stores.workers.list()
        await world.stores.workers.request_drain(row.worker_id)
        await world.recorder.wait_for(WorkerDraining)
        app.stop()
        await anyio.sleep(60)
        waiting.go.set()
    assert (await world.get(request)).status is RequestStatus.COMPLETED


@virtual_time
async def test_a_claim_without_an_answer_is_released_at_the_end(world: World) -> None:
    """The claim may have succeeded, so it is released without a used attempt. Proves CLAIM-2."""
    request = await world.enqueue(max_retries=0)
    fault = world.engine.hold("update", when=moves_to("PROCESSING"), lands=True)
    app = world.app([echo])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await fault.wait_reached()
        app.stop()
    stored = await world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.PENDING, 0)
    assert await world.stores.workers.list() == []


@pytest.mark.parametrize("stops", [1, 2])
async def test_claims_under_way_are_released(world: World, stops: int) -> None:
    """Requests that are claimed after the stop are released, even after a second stop."""
    requests = [await world.enqueue() for _ in range(20)]
    fault = world.engine.hold("update", when=moves_to("PROCESSING"), times=20)
    app = world.app([echo])
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app.run)
            await fault.wait_reached()
            await anyio.wait_all_tasks_blocked()
            for _ in range(stops):
                app.stop()
            await anyio.wait_all_tasks_blocked()
            fault.let_go()
    stored = await world.stores.requests.get_many(request.request_id for request in requests)
    assert {request.status for request in stored.values()} == {RequestStatus.PENDING}
    assert {event.outcome for event in world.recorder.of(RequestFinished)} == {"released"}


@virtual_time
async def test_a_short_outage_during_the_end_loses_nothing(world: World) -> None:
    """Failed writes are repeated for some seconds, and the request is released."""
    waiting = Waiting()
    request = await world.enqueue("wait")
    app = world.app([waiting.handler], drain_timeout=1.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        world.engine.fail("update", when=is_request, times=4)
        app.stop()
    assert len(world.recorder.of(SettleDelayed)) == 4
    assert (await world.get(request)).status is RequestStatus.PENDING


@virtual_time
async def test_a_long_outage_does_not_delay_the_end(world: World) -> None:
    """The worker ends within 15 s, and leaves the request unsettled for a rescue."""
    waiting = Waiting()
    await world.enqueue("wait")
    app = world.app([waiting.handler], drain_timeout=1.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        world.engine.fail("update", when=is_request, times=10**6)
        began = anyio.current_time()
        app.stop()
    assert anyio.current_time() - began < 15
    (finished,) = world.recorder.of(RequestFinished)
    assert finished.outcome == "unsettled"


async def cancel_from_outside(world: World, app: App) -> None:
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await app.run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await world.recorder.wait_for(RequestStarted)
        scope.cancel()


async def test_cancelling_run_releases_requests(world: World) -> None:
    """A program that embeds a worker may end it by cancelling `run`."""
    waiting = Waiting()
    request = await world.enqueue("wait")
    await cancel_from_outside(world, world.app([waiting.handler]))
    assert (await world.get(request)).status is RequestStatus.PENDING


async def test_cancelling_run_interrupts_handlers_at_once(world: World) -> None:
    """They do not wait for claims that have no answer yet."""
    waiting = Waiting()
    await world.enqueue("wait")
    app = world.app([waiting.handler, echo])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        fault = world.engine.hold("update", when=moves_to("PROCESSING"))
        request = await world.enqueue()
        await fault.wait_reached()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            (finished,) = await world.recorder.wait_for(RequestFinished)
            assert (finished.outcome, finished.action) == ("released", "wait")
            assert len(world.recorder.of(ClaimTried)) == 1  # the other claim has no answer yet
            fault.let_go()
    assert waiting.cancelled == 1
    assert (await world.get(request)).status is RequestStatus.PENDING


@virtual_time
async def test_cancelling_run_ends_within_seconds(world: World) -> None:
    """This holds during an outage of the table too."""
    waiting = Waiting()
    await world.enqueue("wait")
    world.engine.fail("update", when=moves_to("PENDING"), times=10**6)
    began = anyio.current_time()
    await cancel_from_outside(world, world.app([waiting.handler]))
    assert anyio.current_time() - began < 15


@virtual_time
async def test_a_pause_during_the_end_loses_no_outcome(world: World) -> None:
    """The lease lasts longer than the pause, so the worker may settle its requests after it."""

    @handler("tidy")
    async def tidy(_payload: dict[str, Any], _ctx: Context) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)
                pause_process(30)
                await anyio.sleep(0.1)

    request = await world.enqueue("tidy")
    app = world.app(
        [tidy],
        drain_timeout=1.0,
        handler=HandlerSettings(cancel_grace=1.0),
        presence=PresenceSettings(lease=60.0),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        app.stop()
    assert (await world.get(request)).status is RequestStatus.PENDING
    assert await world.stores.workers.list() == []


@virtual_time
@pytest.mark.parametrize("lease", [16.0, 3600.0])
async def test_a_stop_ends_the_registration(world: World, lease: float) -> None:
    """A worker whose row cannot be written ends soon after a stop, not after a lease."""
    world.engine.fail("put", times=10**6)
    app = world.app([echo], presence=PresenceSettings(lease=lease))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(StepFailed)
        began = anyio.current_time()
        app.stop()
    assert anyio.current_time() - began <= 4
    assert world.recorder.of(WorkerStarted) == []
