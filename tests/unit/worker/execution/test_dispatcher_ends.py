"""Running requests when the worker stops; what a handler leaves behind."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import anyio
import pytest
import structlog

from streamer_store import Claim, RequestStatus
from streamer_store.versions import cancel_version
from streamer_worker import Context, handler
from streamer_worker.concurrency.request_tasks import open_request_tasks
from streamer_worker.error_codes import WORKER_LOST
from streamer_worker.events import ProgressWritten, RequestFinished, WriteFenced
from streamer_worker.execution.attempt import Interruption
from unit.worker.benches import DispatchBench
from unit.worker.harness import Waiting, World, echo, virtual_time

pytestmark = pytest.mark.anyio
LEAK: ContextVar[str] = ContextVar("LEAK", default="clean")


async def stopped(
    bench: DispatchBench,
    claim: Claim,
    waiting: Waiting,
    reason: Interruption = Interruption.RELEASED,
) -> RequestFinished:
    """Run one claim, and interrupt it once its handler waits."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.dispatcher.run_one, bench.assigned(claim), tasks)
        await anyio.wait_all_tasks_blocked()
        assert waiting.started == 1
        bench.dispatcher.interrupt_all(reason)
        tasks.cancel_scope.cancel()
    assert bench.slots.used == 0
    return bench.world.recorder.of(RequestFinished)[0]


async def test_an_interrupted_request_is_released(world: World) -> None:
    """It is PENDING again, and the attempt does not count."""
    waiting = Waiting()
    claim = await world.claim("wait", retry_count=1)
    finished = await stopped(DispatchBench(world, waiting.handler), claim, waiting)
    assert (finished.outcome, waiting.cancelled) == ("released", 1)
    stored = await world.get(claim)
    assert (stored.status, stored.retry_count) == (RequestStatus.PENDING, 1)


async def test_a_fenced_worker_ends_a_request_that_was_lost_too_often(world: World) -> None:
    """The worker counts its own loss as others would, with `max_rescues` of the settings."""
    waiting = Waiting()
    request = await world.enqueue("wait", max_retries=3, rescues=5, solo=3)
    claim = await world.stores.requests.claim(
        await world.candidate(request), worker_id="me", alone=True
    )
    await stopped(DispatchBench(world, waiting.handler), claim, waiting, Interruption.FENCED)
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, WORKER_LOST)


class Cleaning(Waiting):
    """Raises an error of its own when it is cancelled."""

    async def _run(self, payload: dict[str, Any], ctx: Context) -> str:
        try:
            return await super()._run(payload, ctx)
        except anyio.get_cancelled_exc_class():
            raise RuntimeError("cleaning up failed") from None


class Grouped(Waiting):
    """Fails beside a task that is cancelled."""

    async def _run(self, payload: dict[str, Any], ctx: Context) -> str:
        async def break_down() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise RuntimeError("cleaning up failed")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(break_down)
            await super()._run(payload, ctx)
        return "never"


class Finishing(Waiting):
    """Returns a result when it is cancelled."""

    async def _run(self, payload: dict[str, Any], ctx: Context) -> str:
        try:
            return await super()._run(payload, ctx)
        except anyio.get_cancelled_exc_class():
            return "half"


@pytest.mark.parametrize("kind", [Cleaning, Grouped])
async def test_an_error_after_the_interruption_is_no_failure(
    kind: type[Waiting], world: World
) -> None:
    """A handler that raises because it was cancelled has not failed: its request is released."""
    waiting = kind()
    claim = await world.claim("wait")
    finished = await stopped(DispatchBench(world, waiting.handler), claim, waiting)
    assert finished.outcome == "released"


async def test_a_result_after_the_interruption_is_stored(world: World) -> None:
    """A handler that catches the cancellation and returns has completed its request."""
    waiting = Finishing()
    claim = await world.claim("wait")
    finished = await stopped(DispatchBench(world, waiting.handler), claim, waiting)
    assert finished.outcome == "completed"
    assert (await world.get(claim)).result == {"data": "half"}


async def test_cancellation_from_outside_releases_the_request(world: World) -> None:
    """The worker's own task was cancelled, without an interruption before."""
    waiting = Waiting()
    bench = DispatchBench(world, waiting.handler)
    claim = await world.claim("wait")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.dispatcher.run_one, bench.assigned(claim), tasks)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert bench.slots.used == 0
    assert (await world.get(claim)).status is RequestStatus.PENDING


async def test_while_draining_claims_are_released_not_run(world: World) -> None:
    """A claim that was on its way when the drain began is released. Proves DRAIN-1."""
    bench = DispatchBench(world, echo)
    bench.dispatcher.drain()
    claim = await world.claim()
    assert await bench.run(claim) == "released"
    assert (await world.get(claim)).status is RequestStatus.PENDING


async def test_claims_that_are_handed_over_at_a_cancellation_are_not_lost(world: World) -> None:
    """The dispatcher releases each of them."""
    bench = DispatchBench(world, echo)
    bench.dispatcher.drain()
    claims = [await world.claim() for _ in range(20)]
    async with open_request_tasks() as tasks:
        for number, claim in enumerate(claims):
            if number == 10:
                tasks.group.cancel_scope.cancel()
            bench.start(tasks, claim)
    assert {(await world.get(claim)).status for claim in claims} == {RequestStatus.PENDING}
    assert bench.slots.used == 0


@virtual_time
async def test_a_request_is_held_until_the_outcome_is_written(world: World) -> None:
    """The worker does not rescue it meanwhile. Its slot is free: the next claim need not wait for
    the outcome. Proves CLAIM-3.
    """
    bench = DispatchBench(world, echo)
    claim = await world.claim()
    fault = world.engine.hold("update")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.dispatcher.run_one, bench.assigned(claim), tasks)
        await fault.wait_reached()
        assert (bench.slots.used, bench.slots.held) == (0, 1)
        fault.let_go()
    assert (bench.slots.used, bench.slots.held) == (0, 0)


async def test_a_handlers_context_variables_do_not_leak(world: World) -> None:
    """Neither context variables nor log fields reach the next request or the worker."""
    seen: list[tuple[str, Any]] = []

    @handler("leaky")
    async def leaky(_payload: dict[str, Any], ctx: Context) -> None:
        seen.append((LEAK.get(), structlog.contextvars.get_contextvars().get("mine")))
        LEAK.set(ctx.request_id)
        structlog.contextvars.bind_contextvars(mine=ctx.request_id)

    bench = DispatchBench(world, leaky)
    async with open_request_tasks() as tasks:
        for times in (1, 2):
            bench.start(tasks, await world.claim("leaky"))
            await world.recorder.wait_for(RequestFinished, times)
    assert seen == [("clean", None), ("clean", None)]
    assert LEAK.get() == "clean"


async def test_log_fields_of_a_request_end_with_it(world: World) -> None:
    """Worker, request, action and attempt, whatever the handler does to them."""
    seen: list[dict[str, Any]] = []

    @handler("inspect")
    async def inspect(_payload: dict[str, Any], _ctx: Context) -> None:
        seen.append(dict(structlog.contextvars.get_contextvars()))
        structlog.contextvars.clear_contextvars()

    bench = DispatchBench(world, inspect)
    claim = await world.claim("inspect")
    await bench.run(claim)
    assert seen == [
        {"worker_id": "me", "request_id": claim.request_id, "action": "inspect", "attempt": 1}
    ]
    assert structlog.contextvars.get_contextvars() == {}


async def test_a_claim_after_an_interruption_of_all_is_released(world: World) -> None:
    """A worker that stops starts no handler any more."""
    waiting = Waiting()
    bench = DispatchBench(world, waiting.handler)
    bench.dispatcher.interrupt_all(Interruption.RELEASED)
    claim = await world.claim("wait")
    with anyio.fail_after(10):
        assert await bench.run(claim) == "released"
    assert waiting.started == 0
    assert (await world.get(claim)).status is RequestStatus.PENDING


async def test_a_cancellation_may_come_before_its_claim(world: World) -> None:
    """The handler is not started, and the connection receives the end."""
    waiting = Waiting()
    bench = DispatchBench(world, waiting.handler)
    claim = await world.claim("wait")
    bench.dispatcher.cancel(frozenset({cancel_version(claim.version)}))
    with anyio.fail_after(10):
        assert await bench.run(claim) == "cancelled"
    assert waiting.started == 0
    assert len(world.pushed) == 1


async def test_a_claim_that_is_lost_during_the_attempt_is_not_announced(world: World) -> None:
    """The worker that has the request now announces its end."""
    waiting = Waiting()
    bench = DispatchBench(world, waiting.handler)
    assigned = bench.assigned(await world.claim("wait"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.dispatcher.run_one, assigned, tasks)
        await anyio.wait_all_tasks_blocked()
        bench.dispatcher.interrupt_all(Interruption.CLAIM_LOST)
    assert [event.outcome for event in world.recorder.of(RequestFinished)] == ["claim_lost"]
    assert world.pushed == []


@virtual_time
async def test_a_timeout_of_a_lost_claim_has_the_status_claim_lost(world: World) -> None:
    """Nothing was written, so no timeout is counted."""

    @handler("slow", timeout=5)
    async def slow(_payload: dict[str, Any], _ctx: Context) -> None:
        await anyio.sleep_forever()

    claim = await world.claim("slow")
    await world.stores.requests.delete(claim.request_id)
    assert await DispatchBench(world, slow).run(claim) == "claim_lost"


@virtual_time
async def test_progress_after_the_end_is_not_written(world: World) -> None:
    """A handler that reported nothing has left its context to another task."""
    kept: list[Context] = []

    @handler("keep")
    async def keep(_payload: dict[str, Any], ctx: Context) -> None:
        kept.append(ctx)

    claim = await world.claim("keep")
    await DispatchBench(world, keep).run(claim)
    await kept[0].progress(0.5)
    await anyio.sleep(10)
    assert not world.recorder.of(ProgressWritten)
    assert not world.recorder.of(WriteFenced)
    assert (await world.get(claim)).status is RequestStatus.COMPLETED
