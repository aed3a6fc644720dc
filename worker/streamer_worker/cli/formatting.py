"""Texts and JSON values made from the store's records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from streamer_store import AsyncRequest, Clock
from streamer_store.times import NEVER, format_time
from streamer_worker.sanitize import one_line

LARGE_FIELDS: Final = frozenset({"payload", "result", "checkpoint", "progress_details", "attempts"})
"""The fields of a request that may be as large as an item, and its attempts, up to 3 KB."""
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_FEW_SECONDS: Final = 10
_REJECT: Final = "Reject"


def counted(count: int, noun: str) -> str:
    """Return the count and the noun, with an `s` unless the count is 1."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def json_fields(record: Any, *, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields of a record that are not None, with times as text and sets as lists.

    A tuple of records, as the attempts of a request, is a list of such objects.
    """
    excluded = set(without)
    return _json_object(
        {name: value for name, value in asdict(record).items() if name not in excluded}
    )


def summary_fields(request: AsyncRequest) -> dict[str, Any]:
    """Return the fields of a request that cannot be large."""
    return json_fields(request, without=LARGE_FIELDS)


def cause_of(request: AsyncRequest) -> str:
    """Return the code, the exception's class and the text of the request's error, or ""."""
    parts = (request.error_code, _error_class(request), request.error)
    return ": ".join(part for part in parts if part)


def _error_class(request: AsyncRequest) -> str | None:
    """Return the class from the last attempt, if the request's error is of that attempt.

    Reject says no more than its code and text.
    """
    last = request.attempts[-1] if request.attempts else None
    if last is None or request.error is None or last.error_code != request.error_code:
        return None
    return None if last.error_class == _REJECT else last.error_class


def status_message(request: AsyncRequest) -> str:
    """Return the request's error, or else its progress message, on one line."""
    return one_line(cause_of(request) or request.progress_message or "")


def age(since: datetime | None, clock: Clock) -> str:
    """Return the time since then in one unit, as `90s`, `5m`, `3h` or `2d`; empty for None."""
    if since is None or since == NEVER:
        return ""
    return in_one_unit((clock.now() - since).total_seconds())


def due_text(request: AsyncRequest, clock: Clock) -> str:
    """Return when a request that waits is due: `now`, or the time until then in one unit."""
    if request.retry_after is None or request.retry_after <= clock.now():
        return "now"
    return in_one_unit((request.retry_after - clock.now()).total_seconds())


def in_one_unit(seconds: float) -> str:
    """Return a duration in one unit, as `90s`, `5m`, `3h` or `2d`. Less than nothing is `0s`."""
    for unit, size in _UNITS[:-1]:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units, as `1.25s`, `5m 3s` or `2d 4h`."""
    seconds = max(0.0, seconds)
    if seconds < _FEW_SECONDS:
        return f"{seconds:.3g}s" if seconds >= 1 else f"{seconds * 1000:.0f}ms"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0"))


def date_text(moment: datetime) -> str:
    """Return a time to the second, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _json_object(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _json_value(value) for name, value in fields.items() if value is not None}


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_json_object(record) for record in value]
    return value
