"""Texts and JSON values made from the store's records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from streamer_store import AsyncRequest, Clock
from streamer_store.times import NEVER, format_time
from streamer_worker.sanitize import one_line

_MESSAGE_CHARS: Final = 60
# Each of these fields may be as large as an item.
_LARGE_FIELDS: Final = frozenset({"payload", "result", "checkpoint", "progress_details"})


def counted(count: int, noun: str) -> str:
    """Return the count and the noun, with an `s` unless the count is 1."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def json_fields(record: Any, *, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields of a record that are not None, with times as text and sets as lists."""
    excluded = set(without)
    return {
        name: _json_value(value)
        for name, value in asdict(record).items()
        if value is not None and name not in excluded
    }


def summary_fields(request: AsyncRequest) -> dict[str, Any]:
    """Return the fields of a request that cannot be large."""
    return json_fields(request, without=_LARGE_FIELDS)


def status_message(request: AsyncRequest) -> str:
    """Return the request's error, or else its progress message, in 60 characters at most."""
    text = request.progress_message or ""
    if request.error is not None:
        text = f"{request.error_code}: {request.error}" if request.error_code else request.error
    return one_line(text, _MESSAGE_CHARS)


def age(since: datetime | None, clock: Clock) -> str:
    """Return the time since then in one unit, as `90s`, `5m`, `3h` or `2d`; empty for None."""
    if since is None or since == NEVER:
        return ""
    seconds = max(0.0, (clock.now() - since).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value
