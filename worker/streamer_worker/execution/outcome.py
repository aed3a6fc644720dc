"""From how an attempt ended to what is written (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from streamer_store import AsyncRequest, ItemTooLarge, Rescued, WorkerLoss
from streamer_store.rescues import after_loss
from streamer_store.values import MAX_ITEM_BYTES, decode, encode_document, value_size
from streamer_worker.error_codes import (
    INVALID_ACTION,
    INVALID_CHECKPOINT,
    INVALID_RESULT,
    ITEM_TOO_LARGE,
    PROCESSING_FAILED,
    TIMEOUT,
    VALIDATION_ERROR,
    WORKER_CRASHED,
    WORKER_LOST,
)
from streamer_worker.execution.processes.protocol import ResultInvalid, WorkerCrashed
from streamer_worker.execution.serialization import plain
from streamer_worker.handlers.context import CheckpointInvalid
from streamer_worker.handlers.exceptions import Reject, RetryLater, code_of, wait_of
from streamer_worker.handlers.schema import PayloadInvalid
from streamer_worker.retry import RetryPolicy
from streamer_worker.sanitize import message_of, sanitized, text_of

if TYPE_CHECKING:
    import random

# Exceptions that mean more than that an attempt has failed. In a group of them the first kind
# that it holds decides.
_VERDICTS: Final = (
    Reject,
    PayloadInvalid,
    CheckpointInvalid,
    ResultInvalid,
    ItemTooLarge,
    WorkerCrashed,
    RetryLater,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class NoHandler:
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The worker stops; the request shall run elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """The worker fenced itself: this may be the request that starved it. A worker that was
    paused interrupts its requests instead.
    """

    loss: WorkerLoss


Ended = Returned | Raised | NoHandler | TimedOut | Interrupted | Fenced


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    error: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Run again after that time. `counts`: this was one of the request's attempts. `rescued`:
    its worker was lost, and these are the counts to write.
    """

    after: timedelta
    error: str | None
    code: str | None
    counts: bool = True
    rescued: Rescued | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Back to PENDING; no attempt is used."""


Outcome = Complete | Fail | Retry | Release


def decide(
    ended: Ended, *, request: AsyncRequest, policy: RetryPolicy, rng: random.Random
) -> Outcome:
    """Return what to write. A result that is no mapping is stored as `{"data": ...}`; models
    and dataclasses are mappings.
    """
    wait = policy.delay(request.retry_count + 1, rng)
    match ended:
        case Returned(value=value):
            return _completed(value)
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


def verdict_of(error: BaseException) -> BaseException:
    """Return the exception that decides what becomes of a request.

    1. An exception that is no group decides by itself.
    2. A group (nested, too) in which all are verdicts is the verdict that goes before the
       others: Reject, a payload, checkpoint or result that is not valid, an item without room,
       a process that died, RetryLater. Several RetryLater are one: the longest wait, which
       counts if one of them does.
    3. Any other group is an ordinary failure, and returned as it is.

    Never raises: groups and their members are a handler's.
    """
    try:
        if not isinstance(error, BaseExceptionGroup):
            return error
        members = list(_members(error))
        for kind in _VERDICTS:
            found = [each for each in members if isinstance(each, kind)]
            if found and all(isinstance(each, _VERDICTS) for each in members):
                return _joined(found) if kind is RetryLater else found[0]
    except Exception:  # noqa: BLE001  their attributes may be properties
        return error
    return error


def _members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the exceptions of a group and of the groups in it, in their order."""
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(reversed(error.exceptions))
        else:
            yield error


def _joined(found: list[Any]) -> BaseException:
    longest: RetryLater = max(found, key=wait_of)
    if len(found) == 1:
        return longest
    counts = any(each.counts for each in found)
    joined = RetryLater(longest.reason, after=wait_of(longest), counts=counts)
    return joined.with_traceback(longest.__traceback__)


def _raised(error: BaseException, request: AsyncRequest, wait: float) -> Outcome:
    error = verdict_of(error)
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
        case ResultInvalid():
            return Fail(error=text, code=INVALID_RESULT)
        case ItemTooLarge():
            return Fail(error=text, code=ITEM_TOO_LARGE)
        case WorkerCrashed():
            return _again(request, text, WORKER_CRASHED, wait)
    return _again(request, text, PROCESSING_FAILED, wait)


def _again(request: AsyncRequest, error: str, code: str, wait: float) -> Outcome:
    """Use up an attempt: MaxRetries counts those after the first."""
    if request.retry_count >= request.max_retries:
        return Fail(error=error, code=code)
    return Retry(after=timedelta(seconds=wait), error=error, code=code)


def _lost(request: AsyncRequest, rescued: Rescued) -> Outcome:
    text = f"its worker {request.worker_id} fenced itself"
    if rescued.after is None:
        return Fail(error=text, code=WORKER_LOST)
    return Retry(after=rescued.after, error=text, code=WORKER_LOST, counts=False, rescued=rescued)


def _later(request: AsyncRequest, asked: RetryLater) -> Outcome:
    after = wait_of(asked)
    text = sanitized(text_of(asked.reason)) if asked.reason else None
    if not asked.counts:
        return Retry(after=after, error=text, code=None, counts=False)
    text = text or "the handler asked to run later"
    return _again(request, text, PROCESSING_FAILED, after.total_seconds())


def _completed(value: Any) -> Outcome:
    try:
        value = plain(value)
        encoded = encode_document(
            value if isinstance(value, Mapping) else {"data": value}, "result"
        )
        size = value_size(encoded)
        if size > MAX_ITEM_BYTES:
            text = f"the handler's result has {size} bytes, an item may have {MAX_ITEM_BYTES}"
            return Fail(error=text, code=ITEM_TOO_LARGE)
        # What was checked is what is stored: the handler's own mapping may change.
        return Complete(result=decode(encoded))
    except Exception as error:  # noqa: BLE001  a handler's mapping may do anything
        text = f"the handler's result cannot be stored: {message_of(error)}"
        return Fail(error=sanitized(text), code=INVALID_RESULT)
