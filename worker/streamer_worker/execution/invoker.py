"""Calling a handler: middleware around it, its payload checked, in the place where it runs."""

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
from streamer_worker.execution.processes.forks import ForkBoundary
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.execution.threads import HandlerThreads
from streamer_worker.handlers.context import AttemptInfo, Context, SyncContext, attempt_fields
from streamer_worker.handlers.definition import CallNext, Handler, HandlerFunction, HandlerGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoker:
    """Where handlers run that are no coroutines, and what their groups have opened. `threads`
    limits how many threads of `pool` work at once.
    """

    threads: anyio.CapacityLimiter
    processes: Processes
    states: Mapping[HandlerGroup[Any], Any]
    pool: HandlerThreads = field(default_factory=HandlerThreads)
    # Actions whose function turned out to be async only when it was called.
    hidden_async: set[str] = field(default_factory=set)

    def state_of(self, handler: Handler) -> Any:
        """Return what the lifespan of the handler's group gave; None without one."""
        return None if handler.group is None else self.states.get(handler.group)

    async def call(self, handler: Handler, request: AsyncRequest, ctx: Context[Any]) -> Any:
        """Call the handler inside its middleware, and return what comes out.

        Raises what they raise, and PayloadInvalid when the payload does not fit.
        """
        call_next: CallNext = partial(self._call, handler)
        for middleware in reversed(handler.middleware):
            call_next = partial(middleware, call_next)
        return await _awaited(call_next(request, ctx))

    async def _call(self, handler: Handler, request: AsyncRequest, ctx: Context[Any]) -> Any:
        payload = handler.schema.parse(request.payload)
        facts = attempt_fields(ctx)
        if handler.process:
            return await self.processes.run(
                handler.function, payload, AttemptInfo(**facts), ctx.channel
            )
        if handler.in_thread and handler.action not in self.hidden_async:
            channel = ThreadChannel(ctx.channel, current_token())
            sync: SyncContext[Any] = SyncContext(**facts, state=ctx.state, channel=channel)
            # Not abandoned when cancelled: a thread that runs on keeps its place.
            call = partial(_in_thread, handler.function, payload, sync)
            result = await anyio.to_thread.run_sync(self.pool.run, call, limiter=self.threads)
            if not _has_not_begun(result):
                return result
            # A decorator without functools.wraps hid an async function. It wants to be called
            # on the loop, with a Context.
            result.close()
            self.hidden_async.add(handler.action)
        with ForkBoundary():
            return await _awaited(handler.function(payload, ctx))


def _in_thread(function: HandlerFunction, payload: Any, ctx: SyncContext[Any]) -> Any:
    try:
        with ForkBoundary():
            return function(payload, ctx)
    except GeneratorExit as error:
        # Handed over as it is, it would close the coroutine that awaits the thread.
        raise RuntimeError(f"the handler raised GeneratorExit: {error}") from error


async def _awaited(result: Any) -> Any:
    while inspect.isawaitable(result):
        result = await result
    return result


def _has_not_begun(result: Any) -> bool:
    return inspect.iscoroutine(result) and inspect.getcoroutinestate(result) == inspect.CORO_CREATED
