"""Decides what is written for an attempt, from how it ended (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from streamer_store import AsyncRequest, ItemTooLarge, Rescued, WorkerLoss
from streamer_store.errors import leaf_exceptions
from streamer_store.rescues import after_loss
from streamer_store.values import MAX_ITEM_BYTES, decode, encode_document, value_size
from streamer_worker.error_codes import (
    INVALID_ACTION,
    INVALID_CHECKPOINT,
    INVALID_MESSAGE,
    INVALID_RESULT,
    ITEM_TOO_LARGE,
    PROCESSING_FAILED,
    TIMEOUT,
    VALIDATION_ERROR,
    WORKER_CRASHED,
    WORKER_LOST,
)
from streamer_worker.execution.processes.protocol import ResultInvalid, WorkerCrashed
from streamer_worker.handlers.client_message import MessageInvalid
from streamer_worker.handlers.context import CheckpointInvalid
from streamer_worker.handlers.exceptions import Reject, RetryLater, Scope, code_of, wait_of
from streamer_worker.handlers.schema import PayloadInvalid
from streamer_worker.handlers.serialization import serializable
from streamer_worker.retry import RetryPolicy
from streamer_worker.sanitize import message_of, sanitized, text_of

if TYPE_CHECKING:
    import random

# Exceptions that decide the outcome by their class. In a group, the first class of this list
# that has a member decides.
_DECIDING: Final = (
    Reject,
    PayloadInvalid,
    CheckpointInvalid,
    MessageInvalid,
    ResultInvalid,
    ItemTooLarge,
    WorkerCrashed,
    RetryLater,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The handler returned. `value` is its result as it is, not yet serialized."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The handler, its middleware, or the check of the payload raised."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class NoHandler:
    """No handler is installed for the action."""

    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """The handler did not end within its timeout, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The worker stops or was paused. Another worker runs the request (DRAIN-1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """The worker fenced itself, perhaps because this request starved its event loop. `loss` is
    what the count of rescues is decided from. A worker that was paused interrupts its requests
    instead.
    """

    loss: WorkerLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEnded:
    """The request was cancelled or taken away. There is nothing to decide or to write. `status`
    is cancelled or claim_lost.
    """

    status: str


AttemptEnd = Returned | Raised | NoHandler | TimedOut | Interrupted | Fenced


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """COMPLETED. `result` can be stored."""

    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """FAILED, for good. `code` is the ErrorCode.

    `error_class`: the class of the handler's exception, for the request's `attempts`. It is not
    compared, so that a test can name an outcome by its text and code. `hold`: for how long the
    whole action is held back from now.
    """

    error: str
    code: str
    error_class: str | None = field(default=None, compare=False)
    hold: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """RETRYING: the request runs again, `after` from now.

    `counts`: the attempt counts towards MaxRetries. `rescued`: the worker was lost, and these
    counts are written. Without `error` no error is stored. `error_class`, `hold`: as in Fail.
    """

    after: timedelta
    error: str | None
    code: str | None
    counts: bool = True
    rescued: Rescued | None = None
    error_class: str | None = field(default=None, compare=False)
    hold: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """PENDING again. The attempt does not count."""


Outcome = Complete | Fail | Retry | Release


def decide(
    end: AttemptEnd, *, request: AsyncRequest, policy: RetryPolicy, rng: random.Random
) -> Outcome:
    """Return the outcome to write for an attempt that ended so.

    A result that is no mapping is stored as `{"data": ...}`. Models and dataclasses are
    mappings. `policy` gives the delay of a retry, drawn from `rng`. May raise what attributes
    of the handler's exception raise.
    """
    if isinstance(end, Returned):
        return _completed(end.value)
    wait = policy.delay(request.retry_count + 1, rng)
    match end:
        case Raised(error=error):
            return _raised(error, request, wait)
        case NoHandler(action=action):
            text = f"no handler is installed for action {action!r}"
            return Fail(error=sanitized(text), code=INVALID_ACTION)
        case TimedOut(seconds=seconds):
            return _again(request, f"the handler did not end within {seconds:g} s", TIMEOUT, wait)
        case Interrupted():
            return Release()
        case Fenced(loss=loss):
            return _lost(request, after_loss(request, loss, rng))


def deciding_error(error: BaseException) -> BaseException:
    """Return the exception that decides the outcome of an attempt.

    1. An exception that is no group decides by itself.
    2. A group, nested or not, whose members are all of the classes in _DECIDING: the first
       member of the first class in that order decides. Several RetryLater become one, with the
       longest wait, which counts as an attempt if one of them does, and has the scope "action" if
       one of them has.
    3. Any other group is an ordinary failure, and is returned as it is.

    Never raises, whatever the properties of a handler's exceptions do.
    """
    try:
        if not isinstance(error, BaseExceptionGroup):
            return error
        members = leaf_exceptions(error)
        if not all(isinstance(member, _DECIDING) for member in members):
            return error
        for kind in _DECIDING:
            matching = [member for member in members if isinstance(member, kind)]
            if matching:
                return _joined(matching) if kind is RetryLater else matching[0]
    except Exception:  # noqa: BLE001  their attributes may be properties
        return error
    return error


def _joined(delays: list[Any]) -> BaseException:
    longest: RetryLater = max(delays, key=wait_of)
    if len(delays) == 1:
        return longest
    counts = any(delay.counts for delay in delays)
    scope: Scope = "action" if any(delay.scope == "action" for delay in delays) else "request"
    joined = RetryLater(longest.reason, after=wait_of(longest), counts=counts, scope=scope)
    return joined.with_traceback(longest.__traceback__)


def _raised(error: BaseException, request: AsyncRequest, wait: float) -> Outcome:
    error = deciding_error(error)
    outcome = _failed(error, request, wait)
    return replace(outcome, error_class=sanitized(type(error).__name__))


def _failed(error: BaseException, request: AsyncRequest, wait: float) -> Fail | Retry:
    if isinstance(error, RetryLater):
        return _later(request, error)
    text = sanitized(message_of(error))
    match error:
        case Reject():
            return Fail(error=text, code=code_of(error))
        case PayloadInvalid():
            return Fail(error=text, code=VALIDATION_ERROR)
        case CheckpointInvalid():
            return Fail(error=text, code=INVALID_CHECKPOINT)
        case MessageInvalid():
            return Fail(error=text, code=INVALID_MESSAGE)
        case ResultInvalid():
            return Fail(error=text, code=INVALID_RESULT)
        case ItemTooLarge():
            return Fail(error=text, code=ITEM_TOO_LARGE)
        case WorkerCrashed():
            return _again(request, text, WORKER_CRASHED, wait)
    return _again(request, text, PROCESSING_FAILED, wait)


def _again(request: AsyncRequest, error: str, code: str, wait: float) -> Fail | Retry:
    """Retry, or fail when no retry is left. MaxRetries counts the attempts after the first."""
    if request.retry_count >= request.max_retries:
        return Fail(error=error, code=code)
    return Retry(after=timedelta(seconds=wait), error=error, code=code)


def _lost(request: AsyncRequest, rescued: Rescued) -> Outcome:
    # RESCUE-4: as if another worker had noticed the loss.
    text = f"its worker {request.worker_id} fenced itself"
    if rescued.after is None:
        return Fail(error=text, code=WORKER_LOST)
    return Retry(after=rescued.after, error=text, code=WORKER_LOST, counts=False, rescued=rescued)


def _later(request: AsyncRequest, error: RetryLater) -> Fail | Retry:
    after = wait_of(error)
    hold = after if error.scope == "action" else None
    text = sanitized(text_of(error.reason)) if error.reason else None
    if not error.counts:
        return Retry(after=after, error=text, code=None, counts=False, hold=hold)
    text = text or "the handler asked to run later"
    again = _again(request, text, PROCESSING_FAILED, after.total_seconds())
    return replace(again, hold=hold)


def _completed(value: Any) -> Outcome:
    try:
        value = serializable(value)
        encoded = encode_document(
            value if isinstance(value, Mapping) else {"data": value}, "result"
        )
        size = value_size(encoded)
        if size > MAX_ITEM_BYTES:
            text = f"the handler's result has {size} bytes, an item may have {MAX_ITEM_BYTES}"
            return Fail(error=text, code=ITEM_TOO_LARGE)
        # Decoded, not the handler's own mapping, which may change after this check.
        return Complete(result=decode(encoded))
    except Exception as error:  # noqa: BLE001  a handler's mapping may do anything
        text = f"the handler's result cannot be stored: {message_of(error)}"
        return Fail(error=sanitized(text), code=INVALID_RESULT)
