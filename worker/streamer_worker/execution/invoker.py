"""Calls a handler: checks its payload, in its middleware, as a task, in a thread or a process."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import current_token

from streamer_store import AsyncRequest
from streamer_worker.execution.channels import ThreadChannel
from streamer_worker.execution.outcome import Raised, Returned
from streamer_worker.execution.processes.forks import ForkBoundary
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.execution.threads import HandlerThreads
from streamer_worker.handlers.context import AttemptInfo, Context, SyncContext, attempt_fields
from streamer_worker.handlers.definition import CallNext, Handler, HandlerFunction, HandlerGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoker:
    """Calls handlers. Event loop's thread only.

    * `threads`: limits how many threads of `pool` run a handler at once.
    * `processes`: runs the handlers with `process=True`.
    * `states`: what the lifespan of each group yielded.
    * `pool`: the threads of plain functions.
    * `hidden_async`: actions whose function turned out to be async only when it was called.
    """

    threads: anyio.CapacityLimiter
    processes: Processes
    states: Mapping[HandlerGroup[Any], Any]
    pool: HandlerThreads = field(default_factory=HandlerThreads)
    hidden_async: set[str] = field(default_factory=set)

    def state_of(self, handler: Handler) -> Any:
        """Return what the lifespan of the handler's group yielded; None without a lifespan."""
        return None if handler.group is None else self.states.get(handler.group)

    async def call(self, handler: Handler, request: AsyncRequest, ctx: Context[Any]) -> Any:
        """Call the handler inside its middleware, and return the result.

        Raises what they raise, PayloadInvalid for a payload that does not fit, and WorkerCrashed
        or ResultInvalid for a handler in a process.
        """
        call_next: CallNext = partial(self._call, handler)
        for middleware in reversed(handler.middleware):
            call_next = partial(middleware, call_next)
        return await _awaited(call_next(request, ctx))

    async def _call(self, handler: Handler, request: AsyncRequest, ctx: Context[Any]) -> Any:
        payload = handler.schema.parse(request.payload)
        fields = attempt_fields(ctx)
        if handler.process:
            return await self.processes.run(
                handler.function, payload, AttemptInfo(**fields), ctx.channel
            )
        if handler.in_thread and handler.action not in self.hidden_async:
            channel = ThreadChannel(ctx.channel, current_token())
            sync: SyncContext[Any] = SyncContext(**fields, state=ctx.state, channel=channel)
            # Not abandoned when cancelled: a thread that still runs counts as used.
            call = partial(_in_thread, handler.function, payload, sync)
            result = _take_result(
                await anyio.to_thread.run_sync(self.pool.run, call, limiter=self.threads)
            )
            if not _is_unstarted_coroutine(result):
                return result
            # A decorator without functools.wraps hid an async function. It must be called on the
            # event loop, with a Context.
            result.close()
            self.hidden_async.add(handler.action)
        with ForkBoundary():
            return await _awaited(handler.function(payload, ctx))


def _in_thread(
    function: HandlerFunction, payload: Any, ctx: SyncContext[Any]
) -> list[Returned | Raised]:
    """Call the function, and return how it ended, in a list of one.

    Raises nothing: the future that a thread sets would keep the exception, and the traceback of
    the exception would keep the future. `_take_result` empties the list, which the thread and the
    future may keep for a while.
    """
    try:
        with ForkBoundary():
            return [Returned(value=function(payload, ctx))]
    except BaseException as error:  # noqa: BLE001  a handler's sys.exit() is its failure
        return [Raised(error=error)]


def _take_result(box: list[Returned | Raised]) -> Any:
    """Return the result of the function, or raise its exception."""
    ended = box.pop()
    if isinstance(ended, Returned):
        return ended.value
    try:
        if isinstance(ended.error, GeneratorExit):
            # Raised as it is, it would close the coroutine that awaits the thread.
            text = f"the handler raised GeneratorExit: {ended.error}"
            raise RuntimeError(text) from ended.error
        raise ended.error
    finally:
        del ended  # the traceback of the exception refers to this frame


async def _awaited(result: Any) -> Any:
    while inspect.isawaitable(result):
        result = await result
    return result


def _is_unstarted_coroutine(result: Any) -> bool:
    return inspect.iscoroutine(result) and inspect.getcoroutinestate(result) == inspect.CORO_CREATED
