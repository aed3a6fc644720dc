"""The sections in which `show` prints a request (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from streamer_store import AsyncRequest, RequestStatus
from streamer_store.times import NEVER
from streamer_store.transitions import DELAYED, TERMINAL, WAITING
from streamer_worker.cli.columns import STATUS_STYLES, Cell
from streamer_worker.cli.formatting import cause_of, counted, date_text, duration_text
from streamer_worker.cli.output import json_text

Field = tuple[str, Cell]
_CUT_CHARS: Final = 600


def state_fields(request: AsyncRequest, now: datetime) -> list[Field]:
    """Return the status, its cause, and the times as durations."""
    return [*_cause(request), *_times(request, now)]


def identity_fields(request: AsyncRequest) -> list[Field]:
    """Return what the producer and the worker are, with the whole id."""
    fields = {
        "request": request.request_id,
        "action": request.action,
        "priority": request.priority,
        "unique key": _unique_key(request),
        "tenant": request.tenant_id,
        "user": request.user_id,
        "connection": request.connection_id,
        "worker": request.worker_id,
    }
    return [(name, str(text)) for name, text in fields.items() if text is not None]


def _unique_key(request: AsyncRequest) -> str | None:
    if request.unique_key is None or request.unique_for is None:
        return request.unique_key
    window = duration_text(request.unique_for.total_seconds())
    return f"{request.unique_key} (taken for {window} after it is COMPLETED)"


def document_fields(request: AsyncRequest, *, full: bool) -> list[Field]:
    """Return the values that may be large as JSON, cut unless `full`."""
    values = {
        "details": request.progress_details,
        "checkpoint": request.checkpoint,
        "payload": request.payload,
        "result": request.result,
    }
    return [
        (name, _cut(json_text(value), full=full))
        for name, value in values.items()
        if value is not None
    ]


def _cause(request: AsyncRequest) -> Iterator[Field]:
    yield "status", (request.status.value, f"bold {STATUS_STYLES[request.status]}".strip())
    if cause := cause_of(request):
        yield "error", cause
    if request.progress_message or (request.progress and request.status not in TERMINAL):
        yield "progress", f"{request.progress:.0%} {request.progress_message or ''}".rstrip()
    retries = f"{request.retry_count} of {request.max_retries} used"
    if request.retry_count or request.status is RequestStatus.RETRYING:
        yield "retries", retries
    if request.rescues:
        lost = counted(request.rescues, "worker")
        yield "lost", f"{lost} died or lost contact while running it"


def _times(request: AsyncRequest, now: datetime) -> Iterator[Field]:
    created = _known(request.created_at)
    started, ended = _known(request.processing_started), _known(request.processing_ended)
    if created is not None:
        yield "created", f"{_ago(created, now)}, {date_text(created)}"
    if request.status in DELAYED:
        yield "due", _due(request.retry_after, now)
    elif created is not None and started is not None and _is_first_attempt(request):
        yield "waited", _between(created, started)
    if started is not None and request.status is RequestStatus.PROCESSING:
        yield "runs for", f"{_between(started, now)}, since {date_text(started)}"
    elif started is not None and ended is not None and started <= ended:
        yield "ran", f"{_between(started, ended)}{_attempt_note(request)}"
    if ended is not None and request.status in TERMINAL:
        yield "ended", f"{_ago(ended, now)}, {date_text(ended)}"
    if request.ttl is not None:
        yield "expires", _expiry(request, now)


def _is_first_attempt(request: AsyncRequest) -> bool:
    """Return whether no attempt ran before the one that `processing_started` is of."""
    return not (request.retry_count or request.rescues or request.attempts)


def _attempt_note(request: AsyncRequest) -> str:
    is_one_of_several = request.retry_count or request.status in WAITING
    return " in its last attempt" if is_one_of_several else ""


def _due(retry_after: datetime | None, now: datetime) -> str:
    if retry_after is None or retry_after <= now:
        return "now"
    return f"in {_between(now, retry_after)}, {date_text(retry_after)}"


def _expiry(request: AsyncRequest, now: datetime) -> str:
    """Return when DynamoDB deletes the request, if that is a time within the years 1 to 9999."""
    try:
        moment = datetime.fromtimestamp(request.ttl or 0, UTC)
    except (OverflowError, ValueError, OSError):
        return f"after {request.ttl} seconds since 1970"
    if moment <= now:
        return f"{_ago(moment, now)}, {date_text(moment)}; DynamoDB deletes it within days"
    return f"in {_between(now, moment)}, {date_text(moment)}"


def _ago(moment: datetime, now: datetime) -> str:
    if moment > now:
        return f"in {_between(now, moment)} by this clock"
    return f"{_between(moment, now)} ago"


def _between(begin: datetime, end: datetime) -> str:
    return duration_text((end - begin).total_seconds())


def _known(moment: datetime | None) -> datetime | None:
    return None if moment == NEVER else moment


def _cut(text: str, *, full: bool) -> str:
    if full or len(text) <= _CUT_CHARS:
        return text
    return f"{text[:_CUT_CHARS]}… ({len(text.encode()):,} bytes; --full or --json)"
