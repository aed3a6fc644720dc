"""One attempt: a handler that runs in a task of its own, and can be interrupted."""

from __future__ import annotations

import decimal
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

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
        self._done_or_interrupted = anyio.Event()
        self._done = anyio.Event()

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
        return self._done.is_set()

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

    async def run(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Call the handler in a task group of its own, and store the end in `ended`.

        Raises nothing. A handler may leave a cancel scope open (an async generator that is not
        read to its end does), or cancel its own task. Both damage only this task group.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run, call)
        except BaseException as error:  # noqa: BLE001  see above
            if self.ended is None:
                self.ended = Raised(error=error)
            else:
                drop_tracebacks(error)
        finally:
            self._done_or_interrupted.set()
            self._done.set()

    async def _run(self, call: Callable[[], Awaitable[Any]]) -> None:
        with self._scope:
            self.ended = await self._call(call)

    async def wait(self, *, timeout: float, grace: float) -> None:  # noqa: ASYNC109  it interrupts
        """Wait until the handler has ended. Interrupt it after `timeout` seconds. Return at the
        latest `grace` seconds after an interruption.

        Time in which the process was paused does not count: a handler that had no time to run is
        neither late nor stuck.
        """
        await ended_within(timeout, self._done_or_interrupted.wait)
        if not self._done_or_interrupted.is_set():
            self.interrupt(Interruption.TIMEOUT)
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


async def _is_cancelled() -> bool:
    """Whether a scope around this task is cancelled. If none is, the handler itself raised the
    exception.
    """
    try:
        await checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class():
        return True
    return False
