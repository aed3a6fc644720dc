"""Async functions inside plain decorators, partials, methods and objects."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial, wraps
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest
from streamer_worker import CallNext, Context, Handler, HandlerGroup, SyncContext, handler
from streamer_worker.errors import HandlerLoadError
from streamer_worker.handlers.definition import Kind
from streamer_worker.handlers.registry import registry
from streamer_worker.testing import memory_worker, run_handler
from unit.worker import awkward
from unit.worker.awkward import plainly
from unit.worker.harness import on_asyncio

pytestmark = pytest.mark.anyio
THREADS: list[int] = []


def silently(function: Any) -> Any:
    """A decorator that does not set `__wrapped__`."""

    def wrapper(payload: Any, ctx: Any) -> Any:
        THREADS.append(threading.get_ident())
        return function(payload, ctx)

    return wrapper


async def work(_payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    await ctx.progress(0.5, "half")
    await ctx.checkpoint(1)
    return {"thread": threading.get_ident()}


async def unannotated(_payload, ctx):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return await work(_payload, ctx)


class Service:
    async def method(self, payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return await work(payload, ctx)

    @staticmethod
    async def static(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return await work(payload, ctx)

    async def __call__(self, payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return await work(payload, ctx)


async def forgets_to_await(payload: dict[str, Any], ctx: Context) -> Any:
    return work(payload, ctx)


@on_asyncio
@pytest.mark.parametrize(
    "function",
    [
        plainly(work),
        plainly(plainly(work)),
        plainly(unannotated),
        plainly(Service().method),
        plainly(partial(work)),
        partial(plainly(work)),
        partial(Service()),
        Service.__dict__["static"],
        forgets_to_await,
        silently(work),
        silently(plainly(work)),
        partial(silently(work)),
    ],
    ids=[
        *("wraps", "twice", "unannotated", "method", "around a partial", "in a partial"),
        *("partial of an object", "static method", "forgets", "silent", "silent twice"),
        "partial of a silent one",
    ],
)
async def test_a_hidden_async_function_is_awaited(function: Any) -> None:
    """It runs once, on the event loop, with a Context."""
    run = await run_handler(handler("work")(function))
    assert run.status == "completed"
    assert run.result == {"thread": threading.get_ident()}
    assert [progress.message for progress in run.progress] == ["half"]
    assert run.checkpoints == [1]


@pytest.mark.parametrize("function", [plainly(work), partial(Service()), plainly(unannotated)])
def test_a_wrapped_async_function_runs_as_a_task(function: Any) -> None:
    """It takes no thread."""
    assert handler("work")(function).kind is Kind.TASK


@on_asyncio
async def test_a_hidden_async_function_is_noticed_at_its_first_call() -> None:
    """Only the first call is tried in a thread."""
    THREADS.clear()
    async with memory_worker(handler("work")(silently(work))) as worker:
        for _ in range(3):
            request = await worker.run("work")
            assert request.result == {"thread": threading.get_ident()}
    assert len(THREADS) == 4
    assert THREADS[1:] == [threading.get_ident()] * 3
    assert THREADS[0] != threading.get_ident()


@on_asyncio
async def test_a_decorator_may_await_by_itself() -> None:
    """With a SyncContext as its parameter, the handler runs in a thread."""

    def waited(function: Callable[..., Awaitable[Any]]) -> Any:
        @wraps(function)
        def wrapper(payload: Any, ctx: Any) -> Any:
            return asyncio.run(function(payload, ctx))  # type: ignore[arg-type]

        return wrapper

    @handler("work")
    @waited
    async def own_loop(_payload: dict[str, Any], ctx: SyncContext) -> bool:
        ctx.progress(0.5)
        await asyncio.sleep(0)
        return threading.current_thread() is threading.main_thread()

    assert own_loop.in_thread
    assert (await run_handler(own_loop)).result == {"data": False}


@on_asyncio
async def test_a_hidden_handler_is_cancelled_as_any_other() -> None:
    """It waits on the event loop."""

    async def forever(_payload: dict[str, Any], _ctx: Context) -> None:
        await anyio.sleep_forever()

    run = await run_handler(handler("work", timeout=0.05)(silently(forever)), max_retries=0)
    assert (run.status, run.request.error_code) == ("timeout", "TIMEOUT")


async def test_middleware_may_forget_to_await() -> None:
    """An awaitable that it returns is awaited."""

    async def forgetful(call: CallNext, request: AsyncRequest, ctx: Context) -> Any:
        return call(request, ctx)

    @handler("work")
    async def small(_payload: dict[str, Any], _ctx: Context) -> str:
        return "done"

    run = await run_handler(small, middleware=[forgetful, forgetful])
    assert run.result == {"data": "done"}


def generates(_payload: dict[str, Any], _ctx: Any) -> Iterator[int]:
    yield 1


async def generates_async(_payload: dict[str, Any], _ctx: Any) -> AsyncIterator[int]:
    yield 1


@on_asyncio
@pytest.mark.parametrize("function", [generates, generates_async], ids=["plain", "async"])
@pytest.mark.parametrize("hidden", [plainly, silently])
async def test_a_hidden_generator_fails_its_request(hidden: Any, function: Any) -> None:
    """Only a decorator that reads a generator may wrap one."""
    run = await run_handler(handler("work")(hidden(function)), max_retries=5)
    assert (run.status, run.request.error_code) == ("failed", "INVALID_RESULT")
    assert run.request.error is not None
    assert "generator" in run.request.error


@on_asyncio
async def test_a_decorator_may_read_a_generator() -> None:
    """The result is what the decorator returns."""

    @wraps(generates)
    def collected(payload: Any, ctx: Any) -> list[int]:
        return list(generates(payload, ctx))

    assert (await run_handler(handler("work")(collected))).result == {"data": [1]}


@pytest.mark.parametrize(
    "function",
    [generates, generates_async, partial(generates), partial(generates_async), Service(), Service],
    ids=["plain", "async", "partial plain", "partial async", "object", "class"],
)
def test_an_object_that_is_no_function_is_refused(function: Any) -> None:
    """It raises where the handler is defined."""
    with pytest.raises(TypeError, match="must be a function"):
        handler("work")(function)


@pytest.mark.parametrize("function", [plainly(unannotated), partial(Service()), plainly(work)])
def test_a_process_refuses_async_functions(function: Any) -> None:
    """Also inside a decorator."""
    with pytest.raises(TypeError, match="must be a plain function"):
        handler("work", process=True)(function)


def test_a_process_refuses_a_function_that_it_cannot_import() -> None:
    """It raises when the handler is loaded."""
    with pytest.raises(HandlerLoadError, match="is not at the top level"):
        registry([handler("work", process=True)(silently(work))])


@on_asyncio
async def test_a_coroutine_from_a_process_fails_its_request() -> None:
    """The annotation says that its decorator awaits, which it does not."""
    run = await run_handler(awkward.coroutine_in_process, max_retries=5)
    assert (run.status, run.request.error_code) == ("failed", "INVALID_RESULT")


def test_hidden_middleware_is_refused() -> None:
    """It raises where the group is defined."""

    async def middleware(call: CallNext, request: AsyncRequest, ctx: Context) -> Any:
        return await call(request, ctx)

    refused: tuple[Any, ...] = (silently(middleware), Service())
    for hidden in refused:
        with pytest.raises(TypeError, match="must be an async function"):
            HandlerGroup(middleware=[hidden])


def test_a_wrapped_function_has_its_payload_schema() -> None:
    """It is the annotation that functools.wraps keeps."""

    async def typed(payload: dict[str, int], _ctx: Context) -> None:
        del payload

    defined: Handler = handler("work")(plainly(typed))
    assert defined.schema.annotation == dict[str, int]
