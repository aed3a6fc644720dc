"""What attempts in tasks and threads do not share, and what they leave behind."""

from __future__ import annotations

import contextvars
import decimal
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from streamer_store import ClaimLost
from streamer_worker import Context, Handler, HandlerCancelled, SyncContext, handler
from streamer_worker.execution.processes.forks import exit_code
from streamer_worker.testing import run_handler
from unit.worker.harness import on_asyncio

pytestmark = [pytest.mark.anyio, on_asyncio]

_VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


def _leaves() -> list[Any]:
    """Return what is there of an earlier attempt, and leave something for the next one."""
    values = [_VARIABLE.get(), decimal.getcontext().prec]
    _VARIABLE.set("left")
    decimal.getcontext().prec = 3
    return values


@handler("task")
async def _task(_payload: dict[str, Any], _ctx: Context) -> list[Any]:
    return _leaves()


@handler("thread")
def _thread(_payload: dict[str, Any], _ctx: SyncContext) -> list[Any]:
    return _leaves()


@pytest.mark.parametrize("kind", [_task, _thread])
async def test_each_attempt_has_its_own_context_variables(kind: Handler) -> None:
    """Decimal's context is included, although the worker itself has used it before."""
    decimal.getcontext()
    for _ in range(3):
        assert (await run_handler(kind)).result == {"data": ["none", 28]}


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _fork(how: str) -> int | None:
    """Return how a forked child has ended that leaves the handler in this way."""
    if child := os.fork():
        return _ended(child)
    if how == "exit":
        sys.exit(7)
    if how == "raise":
        raise ValueError(how)
    return None


@handler("fork_task")
async def _fork_task(payload: dict[str, Any], _ctx: Context) -> int | None:
    return _fork(payload["how"])


@handler("fork_thread")
def _fork_thread(payload: dict[str, Any], _ctx: SyncContext) -> int | None:
    return _fork(payload["how"])


@pytest.mark.parametrize("kind", [_fork_task, _fork_thread])
@pytest.mark.parametrize(("how", "code"), [("return", 0), ("exit", 7), ("raise", 1)])
async def test_a_forked_child_ends_where_it_leaves_the_handler(
    kind: Handler, how: str, code: int
) -> None:
    """Middleware and the worker continue only in the parent."""
    assert (await run_handler(kind, {"how": how})).result == {"data": code}


async def test_a_forked_child_ends_where_it_leaves_middleware() -> None:
    """Middleware may fork, too."""

    async def forks(call: Callable[..., Any], request: Any, ctx: Any) -> Any:
        code = _fork("exit")
        return [code, await call(request, ctx)]

    run = await run_handler(_task, middleware=[forks])
    assert run.result == {"data": [7, ["none", 28]]}


@pytest.mark.parametrize("how", ["progress", "checkpoint"])
@pytest.mark.parametrize("thread", [True, False])
async def test_a_forked_child_cannot_use_the_context(how: str, *, thread: bool) -> None:
    """Progress and checkpoints raise RuntimeError in it."""

    @handler("thread")
    def in_thread(_payload: dict[str, Any], ctx: SyncContext) -> int:
        if child := os.fork():
            return _ended(child)
        if how == "progress":
            ctx.progress(0.5)
        else:
            ctx.checkpoint(1)
        os._exit(9)

    @handler("task")
    async def in_task(_payload: dict[str, Any], ctx: Context) -> int:
        if child := os.fork():
            return _ended(child)
        if how == "progress":
            await ctx.progress(0.5)
        else:
            await ctx.checkpoint(1)
        os._exit(9)

    run = await run_handler(in_thread if thread else in_task)
    assert (run.result, run.progress, run.checkpoints) == ({"data": 1}, [], [])


async def test_a_thread_that_was_left_behind_is_cancelled() -> None:
    """It sees `cancelled`, and its writes are refused."""
    released, done = threading.Event(), threading.Event()
    seen: list[Any] = []

    @handler("leaves")
    def leaves(_payload: dict[str, Any], ctx: SyncContext) -> None:
        def late() -> None:
            assert released.wait(10)
            seen.append(ctx.cancelled)
            with pytest.raises(HandlerCancelled):
                ctx.progress(0.9)
            with pytest.raises(HandlerCancelled):
                ctx.checkpoint(1)
            done.set()

        threading.Thread(target=late).start()

    run = await run_handler(leaves)
    released.set()
    assert await anyio.to_thread.run_sync(done.wait, 10)
    assert (seen, run.progress, run.checkpoints) == ([True], [], [])


async def test_a_task_that_was_left_behind_makes_no_checkpoint() -> None:
    """Its checkpoint raises an error."""
    kept: list[Context] = []

    @handler("leaves")
    async def leaves(_payload: dict[str, Any], ctx: Context) -> None:
        kept.append(ctx)

    await run_handler(leaves)
    assert kept[0].cancelled
    with pytest.raises(ClaimLost, match="has ended"):
        await kept[0].checkpoint(1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (ValueError("x"), 1),
        (SystemExit(), 0),
        (SystemExit(3), 3),
        (SystemExit(256), 0),
        (SystemExit("text"), 1),
    ],
)
async def test_exit_codes_are_those_of_python(error: BaseException | None, code: int) -> None:
    """A forked child ends with the exit code that the interpreter would use."""
    assert exit_code(error) == code
