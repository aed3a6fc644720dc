"""Cancelling requests through the stores."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_store.versions import cancel_version
from streamer_worker import Context, handler
from streamer_worker.events import RequestFinished, RequestStarted
from unit.worker.benches import DispatchBench
from unit.worker.harness import Waiting, World, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
HEARTBEAT = 4.0


async def test_a_running_handler_is_cancelled_within_a_heartbeat(world: World) -> None:
    """The worker reads the cancellation with its next heartbeat. The request stays CANCELLED."""
    waiting = Waiting()
    async with running(world.app([waiting.handler])):
        request = await world.enqueue("wait", max_retries=3)
        await world.recorder.wait_for(RequestStarted)
        began = anyio.current_time()
        cancelled = await world.stores.requests.cancel(request.request_id)
        (finished,) = await world.recorder.wait_for(RequestFinished)
        assert anyio.current_time() - began <= HEARTBEAT
    assert (finished.outcome, waiting.cancelled) == ("cancelled", 1)
    stored = await world.get(request)
    assert (stored.status, stored.version) == (RequestStatus.CANCELLED, cancelled.version)


async def test_writes_of_a_cancelled_handler_are_refused(world: World) -> None:
    """A handler that ignores the cancellation, reports progress and returns changes nothing."""

    @handler("stubborn")
    async def stubborn(_payload: dict[str, Any], ctx: Context) -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(HEARTBEAT + 1)
        with suppress(BaseException):
            await ctx.progress(0.9, "still here")
        return "done"

    async with running(world.app([stubborn])):
        request = await world.enqueue("stubborn")
        await world.recorder.wait_for(RequestStarted)
        await world.stores.requests.cancel(request.request_id)
        (finished,) = await world.recorder.wait_for(RequestFinished)
    assert finished.outcome == "cancelled"
    stored = await world.get(request)
    assert (stored.status, stored.result, stored.progress_message) == (
        RequestStatus.CANCELLED,
        None,
        None,
    )


async def test_a_request_cancelled_before_its_claim_never_starts(world: World) -> None:
    """No handler is called for it."""
    waiting = Waiting()
    request = await world.enqueue("wait")
    await world.stores.requests.cancel(request.request_id)
    async with running(world.app([waiting.handler])):
        await anyio.sleep(10)
    assert waiting.started == 0


async def test_a_cancellation_does_not_reach_the_next_run_of_the_request(world: World) -> None:
    """It names the claim's Version: after a redrive and a new claim by the same worker, the new run
    continues.
    """
    starts: list[int] = []
    cancelled: list[int] = []
    first_seen = anyio.Event()

    @handler("wait")
    async def wait(_payload: dict[str, Any], _ctx: Context) -> int:
        number = len(starts)
        starts.append(number)
        first_seen.set()
        try:
            await anyio.sleep(3 * HEARTBEAT)
        except anyio.get_cancelled_exc_class():
            cancelled.append(number)
            raise
        return number

    async with running(world.app([wait])):
        request = await world.enqueue("wait")
        await first_seen.wait()
        await world.stores.requests.cancel(request.request_id)
        await world.stores.requests.redrive(request.request_id)
        finished = await world.recorder.wait_for(RequestFinished, 2)
    assert sorted(event.outcome for event in finished) == ["cancelled", "completed"]
    assert cancelled == [0]
    stored = await world.get(request)
    assert (stored.status, stored.result) == (RequestStatus.COMPLETED, {"data": 1})


async def test_a_cancellation_reaches_only_its_claim(world: World) -> None:
    """A cancellation of an earlier claim that arrives late is ignored. Proves VERSION-2."""
    waiting = Waiting()
    bench = DispatchBench(world, waiting.handler)
    old = await world.claim("wait")
    await world.stores.requests.release(old)
    candidate = await world.candidate(old.request)
    claim = await world.stores.requests.claim(candidate, worker_id="me")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, claim)
        await anyio.wait_all_tasks_blocked()
        bench.dispatcher.cancel(frozenset({cancel_version(old.version)}))
        await anyio.wait_all_tasks_blocked()
        assert (waiting.started, waiting.cancelled) == (1, 0)
        bench.dispatcher.cancel(frozenset({cancel_version(claim.version)}))
    assert waiting.cancelled == 1


async def test_a_handler_can_see_that_its_worker_drains(world: World) -> None:
    """It can end before it is cancelled."""

    @handler("patient")
    async def patient(_payload: dict[str, Any], ctx: Context) -> str:
        while not ctx.draining:  # noqa: ASYNC110  as handlers do
            await anyio.sleep(0.1)
        return "in time"

    app = world.app([patient])
    async with running(app):
        request = await world.enqueue("patient")
        await world.recorder.wait_for(RequestStarted)
    assert (await world.get(request)).result == {"data": "in time"}
