"""One attempt: a handler that runs in a task of its own, and can be interrupted."""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from streamer_store import Cancelled, Claim, ClaimLost
from streamer_worker.concurrency.deadlines import ended_within
from streamer_worker.execution.outcome import Raised, Returned
from streamer_worker.execution.processes.forks import ForkBoundary
from streamer_worker.execution.tracebacks import drop_tracebacks
from streamer_worker.handlers.definition import Handler


class Interruption(StrEnum):
    """Why a handler is interrupted."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    CLAIM_LOST = "claim_lost"
    RELEASED = "released"
    FENCED = "fenced"
    PAUSED = "paused"


_CLAIM_ENDED = frozenset({Interruption.CANCELLED, Interruption.CLAIM_LOST})


class Attempt:
    """A claim and the handler that runs for it.

    `ended` is what the handler returned or raised. It is None until then, and after `forget_end`.
    `interruption` is why it was interrupted, None if it was not. All methods and properties belong
    to the event loop's thread, except `draining` and `cancelled`, which any thread may read.
    """

    def __init__(self, *, claim: Claim, handler: Handler, draining: Callable[[], bool]) -> None:
        self.claim = claim
        self.handler = handler
        self.interruption: Interruption | None = None
        self.ended: Returned | Raised | None = None
        self._draining = draining
        self._scope = anyio.CancelScope()
        # asyncio keeps only a weak reference to a task.
        self._task: asyncio.Task[None] | None = None
        self._done_or_interrupted = _Event()
        self._done = _Event()

    @property
    def draining(self) -> bool:
        """Whether the worker drains."""
        return self._draining()

    @property
    def cancelled(self) -> bool:
        """Whether the handler's work is no longer wanted. True after its end, too: threads and
        tasks that a handler has left behind read it.
        """
        return self.interruption is not None or self.is_done

    @property
    def is_done(self) -> bool:
        """Whether the handler has ended, or was never called."""
        return self._done.is_set

    @property
    def has_lost_claim(self) -> bool:
        """Whether the request was cancelled or taken away: nothing may be written for it."""
        return self.interruption in _CLAIM_ENDED

    def interrupt(self, reason: Interruption) -> None:
        """Cancel the handler. The first reason is kept, unless the claim has ended since."""
        if self.interruption is None or reason in _CLAIM_ENDED:
            self.interruption = reason
        self._scope.cancel()
        self._done_or_interrupted.set()

    def skip(self, reason: Interruption) -> None:
        """End the attempt before its handler is called."""
        self.interrupt(reason)
        self._done.set()

    def mark_lost(self, error: ClaimLost) -> None:
        """Interrupt the handler because the fence refused a write."""
        cancelled = isinstance(error, Cancelled)
        self.interrupt(Interruption.CANCELLED if cancelled else Interruption.CLAIM_LOST)

    def start(self, call: Callable[[], Awaitable[Any]], tasks: TaskGroup) -> None:
        """Call the handler in a task of its own, and store the end in `ended`.

        A handler may leave a cancel scope open (an async generator that is not read to its end
        does), or cancel its own task. Both damage only this task: on asyncio it belongs to no
        task group, and on trio to a group of its own in `tasks`.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            tasks.start_soon(self._contain, self._run_in_group, call)
        else:
            self._task = loop.create_task(self._contain(self._run, call))

    async def _contain(
        self,
        run: Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]],
        call: Callable[[], Awaitable[Any]],
    ) -> None:
        """Await the handler. Raises nothing, whatever it has damaged."""
        try:
            await run(call)
        except BaseException as error:  # noqa: BLE001  see `start`
            if self.ended is None:
                self.ended = Raised(error=error)
            else:
                drop_tracebacks(error)
        finally:
            self._done_or_interrupted.set()
            self._done.set()

    async def _run_in_group(self, call: Callable[[], Awaitable[Any]]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run, call)

    async def _run(self, call: Callable[[], Awaitable[Any]]) -> None:
        with self._scope:
            self.ended = await self._call(call)

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  it interrupts
        """Wait until the handler has ended or was interrupted. Interrupt it after `timeout`
        seconds, and with the reason `released` if this wait is cancelled, which is not raised: the
        worker ends, or a plugin has cancelled the task.

        Time in which the process was paused does not count: a handler that had no time to run is
        neither late nor stuck.
        """
        try:
            await checkpoint()  # a short handler ends in its first step, and needs no timer
            if not self._done_or_interrupted.is_set:
                await ended_within(timeout, self._done_or_interrupted.wait)
        except anyio.get_cancelled_exc_class():
            self.interrupt(Interruption.RELEASED)
        if not self._done_or_interrupted.is_set:
            self.interrupt(Interruption.TIMEOUT)

    async def wait_grace(self, grace: float) -> None:
        """Wait until the handler has ended, `grace` seconds at most. Pauses do not count."""
        if not self.is_done:
            await ended_within(grace, self._done.wait)

    async def wait_done(self) -> None:
        """Wait until the handler has ended, however long it takes."""
        await self._done.wait()

    def forget_end(self) -> None:
        """Free what the handler returned or raised, with the local variables that its exception
        refers to. Does nothing while the handler runs.
        """
        if isinstance(self.ended, Raised):
            drop_tracebacks(self.ended.error)
        self.ended = None

    async def _call(self, call: Callable[[], Awaitable[Any]]) -> Returned | Raised:
        # Decimal's context is one object for all tasks that inherit it, and may be changed.
        decimal.setcontext(decimal.Context())
        try:
            with ForkBoundary():
                return Returned(value=await call())
        except anyio.get_cancelled_exc_class() as error:
            if self.interruption is None and await _is_cancelled():
                self.interruption = Interruption.RELEASED  # from outside: the worker ends
            return Raised(error=error)
        except BaseException as error:  # noqa: BLE001  a handler's sys.exit() is its failure
            return Raised(error=error)


class _Event:
    """An event that most attempts set and never wait for. Event loop's thread only, except
    `is_set`, which any thread may read.

    anyio's own event, which takes longer to make than a short handler to call, is made when a
    task waits.
    """

    __slots__ = ("_event", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        self.is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        if self.is_set:
            await checkpoint()
            return
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


async def _is_cancelled() -> bool:
    """Whether a scope around this task is cancelled. If none is, the handler itself raised the
    exception.
    """
    try:
        await checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class():
        return True
    return False
