"""One handler at work: in a task of its own, which can be told to end, and may refuse."""

from __future__ import annotations

import decimal
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from streamer_store import Cancelled, Claim, ClaimLost
from streamer_worker.execution.outcome import Raised, Returned
from streamer_worker.execution.processes.forks import ForkBoundary
from streamer_worker.handlers.definition import Handler


class Interruption(StrEnum):
    """Why a handler is told to end."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    CLAIM_LOST = "claim_lost"
    RELEASED = "released"
    FENCED = "fenced"
    PAUSED = "paused"


_FINAL = frozenset({Interruption.CANCELLED, Interruption.CLAIM_LOST})


class Running:
    """Whatever the handler does stays in here: `run` raises nothing."""

    def __init__(self, *, claim: Claim, handler: Handler, draining: Callable[[], bool]) -> None:
        self.claim = claim
        self.handler = handler
        self.interruption: Interruption | None = None
        self.ended: Returned | Raised | None = None
        self._draining = draining
        self._scope = anyio.CancelScope()
        self._told = anyio.Event()
        self._done = anyio.Event()

    @property
    def draining(self) -> bool:
        return self._draining()

    @property
    def cancelled(self) -> bool:
        """Whether the handler's work is no longer wanted. Threads and tasks that a handler has left
        behind see it, too.
        """
        return self.interruption is not None or self.is_done

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def interrupt(self, why: Interruption) -> None:
        """Cancel the handler. The first reason counts, unless the request is lost meanwhile."""
        if self.interruption is None or why in _FINAL:
            self.interruption = why
        self._scope.cancel()
        self._told.set()

    def skip(self, why: Interruption) -> None:
        """End before the handler was called."""
        self.interrupt(why)
        self._done.set()

    def lose(self, error: ClaimLost) -> None:
        cancelled = isinstance(error, Cancelled)
        self.interrupt(Interruption.CANCELLED if cancelled else Interruption.CLAIM_LOST)

    async def run(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Call the handler, in a task and a group of its own; `ended` then holds what it did.

        A handler that leaves a scope open, as an async generator does that is not read to its
        end, or that cancels its own task, breaks them when it ends, and nothing around them.
        """
        try:
            async with anyio.create_task_group() as own:
                own.start_soon(self._run, call)
        except BaseException as error:  # noqa: BLE001  see above
            self.ended = self.ended or Raised(error=error)
        finally:
            self._told.set()
            self._done.set()

    async def _run(self, call: Callable[[], Awaitable[Any]]) -> None:
        with self._scope:
            self.ended = await self._call(call)

    async def wait(self, *, at_most: float, grace: float) -> None:
        """Wait until the handler has ended, or has had its time and then `grace` to end."""
        with anyio.move_on_after(at_most):
            await self._told.wait()
        if not self._told.is_set():
            self.interrupt(Interruption.TIMEOUT)
        with anyio.move_on_after(grace):
            await self._done.wait()

    async def wait_done(self) -> None:
        await self._done.wait()

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
    """Whether a scope around us is cancelled; if not, the handler made the exception itself."""
    try:
        await checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class():
        return True
    return False
