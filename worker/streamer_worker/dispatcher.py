"""From a claim to a settled request."""

from __future__ import annotations

from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectReceiveStream

from streamer_store import Cancelled, Claim, Clock, RequestQueue
from streamer_worker.events import Events, HandlerRaised, RequestFinished, RequestStarted
from streamer_worker.handlers.context import Context
from streamer_worker.handlers.definition import Handler
from streamer_worker.handlers.registry import Registry
from streamer_worker.outcome import (
    Ended,
    Fail,
    Interrupted,
    NoHandler,
    Raised,
    Returned,
    decide,
)
from streamer_worker.progress import ProgressWriter
from streamer_worker.settle import Settler
from streamer_worker.slots import Slots


class Dispatcher:
    """Runs one task per claim. Its slot was taken by the poller and is given back here."""

    def __init__(
        self,
        *,
        registry: Registry,
        requests: RequestQueue,
        settler: Settler,
        slots: Slots,
        events: Events,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._requests = requests
        self._settler = settler
        self._slots = slots
        self._events = events
        self._clock = clock
        self._draining = False
        self._interrupted = False

    def drain(self) -> None:
        """From now on, claims that arrive are released, not run."""
        self._draining = True

    def interrupt(self) -> None:
        """From now on, whatever a handler raises counts as our doing: its request is released."""
        self._interrupted = True

    async def run(self, claims: MemoryObjectReceiveStream[Claim], tasks: TaskGroup) -> None:
        """Start a task in `tasks` for every claim that arrives, until the stream ends.

        Cancellation does not end it: a claim that nobody takes would be a lost request.
        """
        with anyio.CancelScope(shield=True):
            async with claims:
                async for claim in claims:
                    tasks.start_soon(self.run_one, claim)

    async def run_one(self, claim: Claim) -> str:
        """Run the handler, settle the request, and return what became of it."""
        try:
            request = claim.request
            attempt = request.retry_count + 1
            started = self._clock.steady()
            with structlog.contextvars.bound_contextvars(
                request_id=request.request_id, action=request.action, attempt=attempt
            ):
                self._events.emit(
                    RequestStarted(
                        request_id=request.request_id, action=request.action, attempt=attempt
                    )
                )
                became, code = await self._attempt(claim)
                self._events.emit(
                    RequestFinished(
                        request_id=request.request_id,
                        action=request.action,
                        attempt=attempt,
                        outcome=became,
                        code=code,
                        seconds=self._clock.steady() - started,
                    )
                )
            return became
        finally:
            self._slots.give()

    async def _attempt(self, claim: Claim) -> tuple[str, str | None]:
        writer = ProgressWriter(requests=self._requests, claim=claim, events=self._events)
        handler = self._registry.get(claim.request.action)
        if self._draining:
            ended: Ended = Interrupted()
        elif handler is None:
            ended = NoHandler(action=claim.request.action)
        else:
            ended = await self._call(handler, claim, writer)
        if writer.lost is not None:
            return ("cancelled" if isinstance(writer.lost, Cancelled) else "claim_lost"), None
        if isinstance(ended, Raised):
            self._tell_raised(claim, ended.error)
        outcome = decide(ended)
        became = await self._settler.settle(claim, outcome)
        return became, outcome.code if isinstance(outcome, Fail) else None

    async def _call(self, handler: Handler, claim: Claim, writer: ProgressWriter) -> Ended:
        context = _context(claim, writer)
        payload: dict[str, Any] = dict(claim.request.payload or {})
        ended: Ended = Interrupted()
        with writer.scope:
            try:
                ended = Returned(value=await handler(payload, context))
            except anyio.get_cancelled_exc_class() as error:
                ended = Raised(error=error) if not await _is_cancelled() else Interrupted()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  a handler's sys.exit() is its failure
                ended = Interrupted() if self._interrupted else Raised(error=error)
        return ended

    def _tell_raised(self, claim: Claim, error: BaseException) -> None:
        request = claim.request
        self._events.emit(
            HandlerRaised(request_id=request.request_id, action=request.action, error=error)
        )


async def _is_cancelled() -> bool:
    """Whether a scope around us is cancelled; if not, the handler made the exception itself."""
    try:
        await checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class():
        return True
    return False


def _context(claim: Claim, writer: ProgressWriter) -> Context:
    request = claim.request
    return Context(
        request_id=request.request_id,
        action=request.action,
        attempt=request.retry_count + 1,
        max_retries=request.max_retries,
        connection_id=request.connection_id,
        user_id=request.user_id,
        tenant_id=request.tenant_id,
        created_at=request.created_at,
        metadata=request.metadata,
        report=writer,
    )
