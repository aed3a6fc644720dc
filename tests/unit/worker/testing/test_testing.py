"""The test kit for authors of handlers."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from streamer_store import EventType, Progress, RequestStatus
from streamer_worker import Context, Reject, RetryLater, SyncContext, handler
from streamer_worker.execution.outcome import Complete, Fail, Release, Retry
from streamer_worker.testing import memory_worker, run_handler, start_handler
from unit.worker.harness import on_asyncio

pytestmark = pytest.mark.anyio


@dataclass
class Made:
    rows: int


@handler("make")
async def make(payload: dict[str, int], ctx: Context) -> Made:
    begin = ctx.last_checkpoint or 0
    for row in range(begin, payload["rows"]):
        await ctx.progress(row + 1, f"row {row}", total=payload["rows"], details={"row": row})
        await ctx.checkpoint(row + 1)
    return Made(payload["rows"])


@handler("hang")
async def hang(_payload: dict[str, Any], ctx: Context) -> str:
    await ctx.progress(0.5)
    while not ctx.draining:  # noqa: ASYNC110  as a handler would
        await anyio.sleep(0.001)
    return "drained"


@handler("forever")
async def forever(_payload: dict[str, Any], ctx: Context) -> None:
    await ctx.checkpoint("here")
    await anyio.sleep_forever()


async def test_a_run_has_all_that_an_attempt_did() -> None:
    """Result, outcome, progress, checkpoints, messages and the request."""
    run = await run_handler(make, {"rows": 2})
    assert (run.status, run.result) == ("completed", {"rows": 2})
    assert run.outcome == Complete(result={"rows": 2})
    assert run.progress == [
        Progress(0.5, "row 0", {"row": 0}),
        Progress(1.0, "row 1", {"row": 1}),
    ]
    assert run.checkpoints == [1, 2]
    assert run.pushed[-1]["result"] == {"rows": 2}
    assert run.request.status is RequestStatus.COMPLETED


async def test_a_run_can_begin_with_a_checkpoint() -> None:
    """As a second attempt does."""
    run = await run_handler(make, {"rows": 3}, checkpoint=2, attempt=2)
    assert run.checkpoints == [3]
    assert run.request.retry_count == 1


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ValueError("broke"), "retried", Retry),
        (RetryLater(after=5), "snoozed", Retry),
        (Reject("no", code="NO"), "failed", Fail),
    ],
)
async def test_an_exception_becomes_an_outcome(
    error: Exception, status: str, kind: type[Any]
) -> None:
    """The run has the exception, too."""

    @handler("raise")
    async def raises(_payload: dict[str, Any], _ctx: Context) -> None:
        raise error

    run = await run_handler(raises)
    assert (run.status, run.error) == (status, error)
    assert "in raises" in "".join(traceback.format_exception(run.error))
    assert isinstance(run.outcome, kind)
    last = await run_handler(raises, max_retries=0)
    assert last.status == ("snoozed" if status == "snoozed" else "failed")


async def test_a_payload_that_does_not_fit_fails_the_run() -> None:
    """With the error code and the message that the worker uses."""
    run = await run_handler(make, {"rows": "many"})
    assert run.request.error_code == "VALIDATION_ERROR"
    assert run.pushed[-1]["error"]["code"] == "VALIDATION_ERROR"


async def test_a_handler_sees_a_drain() -> None:
    """It may finish then."""
    async with start_handler(hang) as run:
        await run.until(lambda run: run.progress != [])
        run.drain()
    assert run.result == {"data": "drained"}


async def test_cancel_release_and_timeout_end_the_handler() -> None:
    """Each has the status and the outcome that the worker gives."""
    async with start_handler(forever) as run:
        await run.until(lambda run: run.checkpoints != [])
        await run.cancel()
    assert (run.status, run.request.status) == ("cancelled", RequestStatus.CANCELLED)
    assert run.pushed[-1]["error"]["code"] == "CANCELLED"
    async with start_handler(forever) as run:
        await run.until(lambda run: run.checkpoints != [])
        run.release()
    assert (run.status, run.outcome) == ("released", Release())
    assert run.request.checkpoint == "here"
    async with start_handler(forever) as run:
        await run.until(lambda run: run.checkpoints != [])
        run.time_out()
    assert (run.status, run.request.error_code) == ("timeout", "TIMEOUT")


async def test_waiting_for_a_condition_that_never_holds_fails() -> None:
    """It does not hang."""
    with pytest.raises(BaseExceptionGroup) as caught:
        async with start_handler(make, {"rows": 1}) as run:
            await run.until(lambda run: len(run.checkpoints) == 2)
    assert "has ended (completed)" in repr(caught.value.exceptions)


@on_asyncio
async def test_plain_functions_run_in_a_thread() -> None:
    """Their progress and checkpoints can be waited for."""

    @handler("plain")
    def plain(_payload: dict[str, Any], ctx: SyncContext) -> str:
        ctx.progress(0.5)
        ctx.checkpoint(5)
        while not ctx.draining:
            pass
        return "done"

    async with start_handler(plain) as run:
        await run.until(lambda run: run.progress != [] and run.checkpoints == [5])
        run.drain()
    assert run.result == {"data": "done"}


async def test_the_repr_of_a_run_says_how_it_ended() -> None:
    """It has the status, the result or the error, and the number of progress reports."""

    @handler("raise")
    async def raises(payload: dict[str, str], _ctx: Context) -> None:
        raise ValueError(payload["text"])

    run = await run_handler(make, {"rows": 2})
    start = "<HandlerRun of 'make': completed, "
    assert repr(run) == start + "result={'rows': 2}; 2 reports of progress>"
    run = await run_handler(make, {"rows": 1})
    assert repr(run).endswith("; 1 report of progress>")
    run = await run_handler(raises, {"text": "broke"})
    assert "'raise': retried, PROCESSING_FAILED: ValueError: broke; 0 reports" in repr(run)
    run = await run_handler(raises, {"text": "x" * 5000 + "\n"}, max_retries=0)
    assert "'raise': failed, PROCESSING_FAILED: ValueError: xxx" in repr(run)
    assert len(repr(run)) < 600
    run = await run_handler(make, {"rows": "many"})
    assert "'make': failed, VALIDATION_ERROR: " in repr(run)
    assert "rows: " in repr(run)
    async with start_handler(hang) as run:
        await run.until(lambda run: run.progress != [])
        assert repr(run) == "<HandlerRun of 'hang': running; 1 report of progress>"
        run.time_out()
    assert "'hang': timeout, TIMEOUT: " in repr(run)


async def test_a_whole_worker_runs_in_memory() -> None:
    """Failed attempts run again at once, and messages are pushed to connections."""
    failures = [ValueError("first"), ValueError("second")]

    @handler("work")
    async def work(payload: dict[str, Any], _ctx: Context) -> dict[str, Any]:
        if failures:
            raise failures.pop()
        return payload

    async with memory_worker(work) as worker:
        await worker.connect("c1")
        await worker.connect("c2")
        await worker.stores.subscriptions.subscribe("c2", "r1", [EventType.COMPLETE])
        request = await worker.run("work", {"n": 1}, request_id="r1", connection_id="c1")
        assert (request.result, request.retry_count) == ({"n": 1}, 2)
        assert sorted(message.connection_id for message in worker.delivered) == ["c1", "c2"]
        unknown = await worker.run("nobody_knows")
        assert unknown.error_code == "INVALID_ACTION"


async def test_a_waiting_request_that_is_cancelled_has_ended() -> None:
    """Although the worker never claimed it."""
    async with memory_worker(forever, concurrency=1) as worker:
        first = await worker.enqueue("forever")
        second = await worker.enqueue("forever")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.ended, second.request_id)
            await worker.stores.requests.cancel(second.request_id)
        await worker.stores.requests.cancel(first.request_id)
