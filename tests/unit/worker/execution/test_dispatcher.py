"""From a claim to a settled request."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_worker import Context, Handler, handler
from streamer_worker.concurrency.request_tasks import open_request_tasks
from streamer_worker.events import ProgressWritten, RequestFinished, RequestStarted
from unit.worker.benches import DispatchBench
from unit.worker.faulty_engine import PATIENCE, is_progress
from unit.worker.harness import Waiting, World, echo, on_asyncio

pytestmark = pytest.mark.anyio


def raising(error: BaseException) -> Handler:
    @handler("fail")
    async def fail(_payload: dict[str, Any], _ctx: Context) -> None:
        raise error

    return fail


async def test_a_result_completes_the_request(world: World) -> None:
    """The handler gets the payload, and its result is stored."""
    claim = await world.claim(payload={"n": 1})
    assert await DispatchBench(world, echo).run(claim) == "completed"
    stored = await world.get(claim)
    assert (stored.status, stored.result) == (RequestStatus.COMPLETED, {"n": 1})


async def test_a_handler_of_a_request_without_payload_gets_an_empty_one(world: World) -> None:
    """The handler gets an empty dict, not None."""
    claim = await world.claim()
    await DispatchBench(world, echo).run(claim)
    assert (await world.get(claim)).result == {}


async def test_a_context_has_the_fields_of_the_request(world: World) -> None:
    """They are those that the producer wrote, and attempts count from 1."""
    contexts: list[Context] = []

    @handler("inspect")
    async def inspect(_payload: dict[str, Any], ctx: Context) -> None:
        contexts.append(ctx)

    claim = await world.claim(
        "inspect",
        connection_id="c",
        user_id="u",
        tenant_id="t",
        retry_count=1,
        max_retries=5,
        payload={"_metadata": {"trace": "abc"}},
    )
    await DispatchBench(world, inspect).run(claim)
    (ctx,) = contexts
    assert (ctx.request_id, ctx.action, ctx.attempt) == (claim.request_id, "inspect", 2)
    assert (ctx.connection_id, ctx.user_id, ctx.tenant_id) == ("c", "u", "t")
    assert (ctx.max_retries, ctx.metadata) == (5, {"trace": "abc"})
    assert ctx.created_at == claim.request.created_at


async def test_progress_is_written_while_the_handler_runs(world: World) -> None:
    """A progress report is in the table before the handler ends."""
    seen: list[float] = []

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> None:
        await ctx.progress(0.4, "Reading rows", details={"rows": 3})
        await world.recorder.wait_for(ProgressWritten)
        seen.append((await world.stores.requests.get(ctx.request_id)).progress)

    assert await DispatchBench(world, steps).run(await world.claim("steps")) == "completed"
    assert seen == [0.4]


async def test_an_unknown_action_fails(world: World) -> None:
    """The error code is INVALID_ACTION."""
    claim = await world.claim("nobody_knows")
    assert await DispatchBench(world, echo).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "INVALID_ACTION")
    assert "nobody_knows" in (stored.error or "")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no rows"),
        TimeoutError("no rows"),
        SystemExit("no rows"),
        KeyboardInterrupt("no rows"),
        BaseExceptionGroup("no rows", [SystemExit(1)]),
        GeneratorExit("no rows"),
        StopAsyncIteration("no rows"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_any_exception_of_a_handler_fails_only_its_request(
    error: BaseException, world: World
) -> None:
    """sys.exit() in a handler is a failure like any other, and the next request runs."""
    bench = DispatchBench(world, raising(error), echo)
    claim = await world.claim("fail")
    assert await bench.run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
    assert "no rows" in (stored.error or "")
    assert await bench.run(await world.claim()) == "completed"


async def test_sys_exit_without_a_text_fails_the_request(world: World) -> None:
    """The stored error is not empty."""

    @handler("leave")
    async def leave(_payload: dict[str, Any], _ctx: Context) -> None:
        sys.exit()

    claim = await world.claim("leave")
    assert await DispatchBench(world, leave).run(claim) == "failed"
    assert (await world.get(claim)).error


@on_asyncio
async def test_a_handler_that_raises_cancelled_error_by_itself_fails(world: World) -> None:
    """The worker did not cancel it, so the request fails, and the next one runs."""
    bench = DispatchBench(world, raising(asyncio.CancelledError()), echo)
    assert await bench.run(await world.claim("fail")) == "failed"
    assert await bench.run(await world.claim()) == "completed"


@on_asyncio
async def test_a_handler_that_cancels_its_own_task_fails(world: World) -> None:
    """asyncio's cancellation of the task is no interruption by the worker."""

    @handler("suicide")
    async def suicide(_payload: dict[str, Any], _ctx: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    bench = DispatchBench(world, suicide)
    claim = await world.claim("suicide")
    assert await bench.run(claim) == "failed"
    assert (await world.get(claim)).status is RequestStatus.FAILED


@on_asyncio
@pytest.mark.parametrize("kind", ["timeout", "wait_for", "task_group"])
async def test_asyncios_own_tools_work_in_a_handler(kind: str, world: World) -> None:
    """Timeouts and task groups of asyncio work inside a handler."""

    async def fail() -> None:
        raise ValueError("inner")

    @handler("tools")
    async def tools(_payload: dict[str, Any], _ctx: Context) -> str:
        try:
            if kind == "timeout":
                async with asyncio.timeout(0.001):
                    await anyio.sleep_forever()
            elif kind == "wait_for":
                await asyncio.wait_for(anyio.sleep_forever(), 0.001)
            else:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(fail())
                    tasks.create_task(anyio.sleep_forever())
        except (TimeoutError, ExceptionGroup):
            return "caught"
        return "not interrupted"

    claim = await world.claim("tools")
    assert await DispatchBench(world, tools).run(claim) == "completed"
    assert (await world.get(claim)).result == {"data": "caught"}


async def test_a_result_that_cannot_be_stored_fails(world: World) -> None:
    """The code is INVALID_RESULT, in the table and in the event."""

    @handler("odd")
    async def odd(_payload: dict[str, Any], _ctx: Context) -> Any:
        return {"x": object()}

    claim = await world.claim("odd")
    assert await DispatchBench(world, odd).run(claim) == "failed"
    assert (await world.get(claim)).error_code == "INVALID_RESULT"
    (finished,) = world.recorder.of(RequestFinished)
    assert finished.code == "INVALID_RESULT"


@pytest.mark.parametrize(
    ("operation", "outcome"), [("cancel", "cancelled"), ("delete", "claim_lost")]
)
async def test_a_refused_progress_write_cancels_the_handler(
    operation: str, outcome: str, world: World
) -> None:
    """The outcome is cancelled or claim_lost, and nothing more is written."""
    after: list[str] = []

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> None:
        await getattr(world.stores.requests, operation)(ctx.request_id)
        world.engine.calls.clear()
        await ctx.progress(0.5)
        await anyio.sleep(PATIENCE)
        after.append("went on")

    claim = await world.claim("steps")
    assert await DispatchBench(world, steps).run(claim) == outcome
    assert after == []
    assert world.engine.calls == ["update"]


async def test_a_result_after_a_lost_claim_is_not_written(world: World) -> None:
    """A handler that catches the cancellation and returns changes nothing."""

    @handler("stubborn")
    async def stubborn(_payload: dict[str, Any], ctx: Context) -> str:
        await world.stores.requests.cancel(ctx.request_id)
        try:
            await ctx.progress(0.5)
        except anyio.get_cancelled_exc_class():
            return "here all the same"
        return "never"

    claim = await world.claim("stubborn")
    assert await DispatchBench(world, stubborn).run(claim) == "cancelled"
    assert (await world.get(claim)).result is None


async def test_a_lost_claim_is_noticed_at_the_latest_when_settling(world: World) -> None:
    """The fence refuses the outcome of a handler that has not reported."""

    @handler("silent")
    async def silent(_payload: dict[str, Any], ctx: Context) -> str:
        await world.stores.requests.cancel(ctx.request_id)
        return "done"

    claim = await world.claim("silent")
    assert await DispatchBench(world, silent).run(claim) == "cancelled"


async def test_an_outage_of_progress_does_not_fail_the_request(world: World) -> None:
    """The progress is dropped, and the result is stored."""

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> None:
        await ctx.progress(0.5)

    world.engine.fail("update", when=is_progress)
    assert await DispatchBench(world, steps).run(await world.claim("steps")) == "completed"


async def test_changes_of_the_payload_are_not_stored(world: World) -> None:
    """The stored payload is the producer's."""

    @handler("greedy")
    async def greedy(payload: dict[str, Any], _ctx: Context) -> None:
        payload["list"].append("mine")
        payload.clear()

    claim = await world.claim("greedy", payload={"list": [1]})
    await DispatchBench(world, greedy).run(claim)
    assert (await world.get(claim)).payload == {"list": [1]}


async def test_an_attempt_has_a_start_and_a_finish_event(world: World) -> None:
    """Both have the same ids. The second has the outcome and the duration."""
    claim = await world.claim(retry_count=2)
    await DispatchBench(world, echo).run(claim)
    (started,) = world.recorder.of(RequestStarted)
    (finished,) = world.recorder.of(RequestFinished)
    assert started == RequestStarted(request_id=claim.request_id, action="echo", attempt=3)
    assert (finished.request_id, finished.action, finished.attempt) == (
        claim.request_id,
        "echo",
        3,
    )
    assert (finished.outcome, finished.code) == ("completed", None)
    assert finished.seconds >= 0


async def test_claims_run_concurrently(world: World) -> None:
    """A handler that waits does not delay another."""
    waiting = Waiting()
    bench = DispatchBench(world, waiting.handler, echo)
    async with open_request_tasks() as tasks:
        for action in ("wait", "echo"):
            bench.start(tasks, await world.claim(action))
        (finished,) = await world.recorder.wait_for(RequestFinished)
        assert finished.action == "echo"
        waiting.go.set()
        await world.recorder.wait_for(RequestFinished, 2)
    assert bench.slots.used == 0
