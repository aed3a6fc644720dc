"""Which messages about a request are pushed, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_worker import Context, Reject, RetryLater, handler
from streamer_worker.events import PayloadRefused
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.messages import ProgressMessage
from unit.worker.benches import DispatchBench, PollBench, Raising
from unit.worker.faulty_engine import moves_to
from unit.worker.harness import Waiting, World, echo, virtual_time

pytestmark = pytest.mark.anyio


def announced(world: World) -> list[tuple[str, str, str | None]]:
    return [(message.type, message.request_id, message.connection_id) for message in world.pushed]


def last(world: World) -> Any:
    return world.pushed[-1]


async def test_a_completed_request_is_announced_with_its_result(world: World) -> None:
    """The message goes to the request's own connection, after the outcome was written."""
    claim = await world.claim(payload={"n": 1}, connection_id="c1")
    await DispatchBench(world, echo).run(claim)
    assert announced(world) == [("complete", claim.request_id, "c1")]
    assert last(world).result == {"n": 1}


async def test_go_messages_begin_with_0_and_end_with_100_percent(world: World) -> None:
    """A later attempt begins with what earlier ones have reached. Without the setting, the start
    of an attempt is not announced.
    """
    claim = await world.claim(payload={"n": 1}, connection_id="c1")
    announcer = Announcer(push=world.pushed.append, clock=world.clock, go_messages=True)
    announcer.started(claim.request)
    announcer.started(replace(claim.request, progress=0.5))
    announcer.completed(claim.request, {"n": 1})
    end = last(world)
    progress = [message for message in world.pushed if isinstance(message, ProgressMessage)]
    assert [(each.fraction, each.message, each.kept) for each in progress] == [
        (0.0, "Processing started", True),
        (0.5, "Processing started", True),
        (1.0, "Processing complete", True),
    ]
    assert (end.result, end.success_in_result) == ({"n": 1}, True)
    Announcer(push=world.pushed.append, clock=world.clock).started(claim.request)
    assert world.pushed == [*progress, end]


async def test_a_failed_request_is_announced_with_its_code(world: World) -> None:
    """The message has the code and the text that were written to the table."""
    claim = await world.claim("work", connection_id="c1")
    await DispatchBench(world, Raising(Reject("no account", code="NO_ACCOUNT")).handler).run(claim)
    assert announced(world) == [("error", claim.request_id, "c1")]
    assert (last(world).code, last(world).text) == ("NO_ACCOUNT", "no account")


@pytest.mark.parametrize("error", [ValueError("broke"), RetryLater(after=5)])
async def test_a_retried_attempt_is_not_announced(error: Exception, world: World) -> None:
    """The request has not ended."""
    claim = await world.claim("work", max_retries=3)
    await DispatchBench(world, Raising(error).handler).run(claim)
    assert world.pushed == []


@virtual_time
async def test_progress_is_announced_at_most_ten_times_a_second(world: World) -> None:
    """Each message has the newest progress, and none comes after the end."""

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> None:
        for number in range(200):
            await ctx.progress(number, f"step {number}", total=200, details={"n": number})
            await anyio.sleep(0.01)

    claim = await world.claim("steps", connection_id="c1")
    await DispatchBench(world, steps).run(claim)
    progress = [message for message in world.pushed if isinstance(message, ProgressMessage)]
    assert 19 <= len(progress) <= 22
    numbers = [message.details["n"] for message in progress if message.details is not None]
    assert numbers == sorted(numbers)
    assert numbers[-1] >= 180
    assert last(world).type == "complete"


async def test_the_last_progress_is_in_the_table_with_the_outcome(world: World) -> None:
    """Progress reported right before the end is written together with the outcome."""

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> None:
        for number in range(100):
            await ctx.progress(number / 100, f"step {number}")
        raise Reject("enough")

    claim = await world.claim("steps")
    await DispatchBench(world, steps).run(claim)
    stored = await world.get(claim)
    assert (stored.progress, stored.progress_message) == (0.99, "step 99")


async def test_progress_that_does_not_fit_is_dropped_for_the_result(world: World) -> None:
    """The outcome is written without the progress."""

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> dict[str, str]:
        await ctx.progress(0.5, "m" * 100_000)
        return {"r": "x" * 100_000}

    claim = await world.claim("steps", payload={"p": "x" * 250_000})
    assert await DispatchBench(world, steps).run(claim) == "completed"
    stored = await world.get(claim)
    assert (stored.result, stored.progress_message) == ({"r": "x" * 100_000}, None)


async def test_a_cancelled_request_is_announced_by_the_worker_that_ran_it(world: World) -> None:
    """The message is an error with the code CANCELLED."""
    waiting = Waiting()
    bench = DispatchBench(world, waiting.handler)
    claim = await world.claim("wait", connection_id="c1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, claim)
        await anyio.wait_all_tasks_blocked()
        await world.stores.requests.cancel(claim.request_id)
        waiting.go.set()
    assert announced(world) == [("error", claim.request_id, "c1")]
    assert last(world).code == "CANCELLED"


async def test_a_request_that_another_worker_has_is_not_announced(world: World) -> None:
    """The other worker announces it. Proves PUSH-1."""
    claim = await world.claim("work")
    await world.stores.requests.delete(claim.request_id)
    await DispatchBench(world, Raising().handler).run(claim)
    assert world.pushed == []


@virtual_time
async def test_an_outcome_is_not_announced_before_it_is_written(world: World) -> None:
    """While the outcome cannot be written, nothing is pushed. Proves PUSH-1."""
    fault = world.engine.hold("update", when=moves_to("COMPLETED"))
    claim = await world.claim()
    bench = DispatchBench(world, echo)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, claim)
        await fault.wait_reached()
        assert world.pushed == []
        fault.let_go()
    assert len(world.pushed) == 1


async def test_an_invalid_request_is_announced_to_subscribers(
    world: World, bench: PollBench
) -> None:
    """The request's own connection cannot be read from the item."""
    await world.put_pending(
        "r1", Action={"S": "echo"}, ConnectionID={"S": "c1"}, Payload={"S": "no map"}
    )
    await bench.poll()
    assert announced(world) == [("error", "r1", None)]
    assert last(world).code == "INVALID_REQUEST"


async def test_a_payload_that_does_not_fit_fails_the_request(world: World) -> None:
    """The handler is not called, and no attempt follows. The event has only field paths."""
    called: list[Any] = []

    @handler("typed")
    async def typed(payload: dict[str, int], _ctx: Context) -> None:
        called.append(payload)

    claim = await world.claim("typed", payload={"a": "s3cret"}, max_retries=3)
    assert await DispatchBench(world, typed).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "VALIDATION_ERROR")
    assert (stored.error or "").startswith("the payload does not fit: a: Input should be")
    assert called == []
    assert world.recorder.of(PayloadRefused) == [
        PayloadRefused(request_id=claim.request_id, action="typed", fields=("a",))
    ]


async def test_a_checkpoint_reaches_the_next_attempt(world: World) -> None:
    """The next attempt has the checkpoint in its context, beside the fields of the request."""
    seen: list[Context] = []

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> None:
        seen.append(ctx)
        await ctx.checkpoint({"row": ctx.attempt})
        raise RetryLater(after=0, counts=True)

    bench = DispatchBench(world, steps)
    first = await world.claim(
        "steps", max_retries=3, tenant_id="t", payload={"_metadata": {"a": 1}}
    )
    assert await bench.run(first) == "retried"
    candidate = await world.candidate(first.request, RequestStatus.RETRYING)
    assert (
        await bench.run(await world.stores.requests.claim(candidate, worker_id="me")) == "retried"
    )
    assert [(ctx.attempt, ctx.last_checkpoint) for ctx in seen] == [(1, None), (2, {"row": 1})]
    assert (seen[0].tenant_id, seen[0].metadata, seen[0].max_retries) == ("t", {"a": 1}, 3)
    left = seen[0].deadline - world.clock.now()
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
