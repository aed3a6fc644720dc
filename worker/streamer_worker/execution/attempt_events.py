"""The events that the dispatcher emits for one attempt (pure)."""

from __future__ import annotations

from typing import Final

from streamer_store import AsyncRequest
from streamer_worker.events import (
    HandlerRaised,
    HandlerStuck,
    PayloadRefused,
    RequestFinished,
    RequestStarted,
    StuckHandlerEnded,
)
from streamer_worker.execution.attempt import Attempt
from streamer_worker.execution.outcome import Fail, Retry
from streamer_worker.execution.settler import Settled
from streamer_worker.handlers.schema import PayloadInvalid

_RUNS_AGAIN: Final = frozenset({"retried", "snoozed", "rescued", "timeout"})


def started(request: AsyncRequest) -> RequestStarted:
    """Return the event of an attempt that begins."""
    return RequestStarted(
        request_id=request.request_id,
        action=request.action,
        attempt=request.retry_count + 1,
    )


def raised(request: AsyncRequest, error: BaseException) -> HandlerRaised | PayloadRefused:
    """Return the event of an exception: a payload that does not fit has an event of its own."""
    request_id, action = request.request_id, request.action
    if isinstance(error, PayloadInvalid):
        return PayloadRefused(request_id=request_id, action=action, fields=error.paths)
    return HandlerRaised(request_id=request_id, action=action, error=error)


def stuck(attempt: Attempt) -> HandlerStuck:
    """Return the event of a handler that still runs after the grace period."""
    return HandlerStuck(
        request_id=attempt.claim.request_id,
        action=attempt.claim.request.action,
        reason=str(attempt.interruption),
        thread=attempt.handler.in_thread,
    )


def stuck_ended(attempt: Attempt) -> StuckHandlerEnded:
    """Return the event of a stuck handler that has ended."""
    return StuckHandlerEnded(
        request_id=attempt.claim.request_id,
        action=attempt.claim.request.action,
        thread=attempt.handler.in_thread,
    )


def finished(request: AsyncRequest, settled: Settled, seconds: float) -> RequestFinished:
    """Return the event of a settled request. `seconds` is the duration of the attempt.

    The code is that of the failure. An outcome that was not written has none.
    """
    code, will_retry = None, False
    if isinstance(settled.outcome, Fail):
        code = settled.outcome.code
    elif isinstance(settled.outcome, Retry) and settled.status in _RUNS_AGAIN:
        code, will_retry = settled.outcome.code, True
    return RequestFinished(
        request_id=request.request_id,
        action=request.action,
        attempt=request.retry_count + 1,
        outcome=settled.status,
        code=code,
        seconds=seconds,
        will_retry=will_retry,
    )
