"""The attempts of a request that failed, as its attribute Attempts keeps them (pure).

A write costs by the size of the item, so the list is bounded: the last 10 attempts, 3 KB in all,
and 200 bytes for each text. The oldest attempts are removed first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from streamer_store.errors import ValidationError
from streamer_store.times import format_time, parse_time
from streamer_store.validation import (
    require_count,
    require_optional_time,
    require_string,
    require_text,
    require_time,
)
from streamer_store.values import AttributeValue, decode, short_repr, value_size

ATTEMPTS: Final = "Attempts"
"""The name of the attribute."""
MAX_ATTEMPTS: Final = 10
MAX_BYTES: Final = 3 * 1024
"""The size of the attribute with its name, as DynamoDB counts it."""
MAX_TEXT_BYTES: Final = 200

# A list has 3 bytes, and 1 for each element ("Item sizes and formats", Developer Guide).
_LIST_BYTES: Final = 3
_TEXTS: Final = {
    "WorkerID": "worker_id",
    "ErrorCode": "error_code",
    "ErrorClass": "error_class",
    "Error": "error",
}
_UNREADABLE: Final = (ValueError, TypeError, ArithmeticError, LookupError, ValidationError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """An attempt of a request that failed. Raises ValidationError for a wrong field.

    The texts are cut to 200 bytes when they are stored.
    """

    number: int
    """The number of the attempt, as `ctx.attempt` and the log have it: RetryCount + 1. An attempt
    after a lost worker has the same number again, and the first one after a redrive is 1."""
    worker_id: str | None = None
    """The worker that ran it. None: a consumer that sets no WorkerID."""
    started: datetime | None = None
    """When it was claimed, by the worker's clock. None: unknown."""
    ended: datetime
    """When its outcome was written, by the clock of the process that wrote it. For a lost worker
    that is when the loss was found."""
    outcome: str
    """What followed: `retried`; `failed`, the request ended; `rescued`, its worker was lost."""
    error_code: str | None = None
    """The code of the failure, for example `TIMEOUT`."""
    error_class: str | None = None
    """The class of the exception that the handler raised. None: there was no exception."""
    error: str | None = None
    """The beginning of the error text."""

    def __post_init__(self) -> None:
        require_count("number", self.number)
        require_time("ended", self.ended)
        require_text("outcome", self.outcome)
        require_optional_time("started", self.started)
        for name in ("worker_id", "error_code", "error_class", "error"):
            if getattr(self, name) is not None:
                require_string(name, getattr(self, name))


def require_attempts(name: str, value: object) -> None:
    """Check that the value is a tuple of attempts."""
    if value == ():  # most requests
        return
    if not isinstance(value, tuple) or not all(isinstance(member, Attempt) for member in value):
        raise ValidationError(name, f"must be a tuple of attempts, not {short_repr(value)}")


def attempts_value(attempts: Iterable[Attempt]) -> AttributeValue:
    """Return the list to store: the newest attempts that fit, the oldest of them first."""
    entries: list[AttributeValue] = []
    left = MAX_BYTES - len(ATTEMPTS) - _LIST_BYTES
    for attempt in reversed(tuple(attempts)[-MAX_ATTEMPTS:]):
        entry = _entry(attempt)
        left -= 1 + value_size(entry)
        if left < 0:
            break
        entries.append(entry)
    return {"L": entries[::-1]}


def read_attempts(value: AttributeValue) -> tuple[Attempt, ...]:
    """Return the attempts of a stored list. Never raises.

    Entries that are not an attempt are left out, as other programs and later releases may write
    them. Of a longer list the last 10 entries are read.
    """
    stored = value.get("L")
    if not isinstance(stored, list | tuple):
        return ()
    attempts = (_attempt(entry) for entry in stored[-MAX_ATTEMPTS:])
    return tuple(attempt for attempt in attempts if attempt is not None)


def _entry(attempt: Attempt) -> AttributeValue:
    texts: dict[str, str | None] = {
        "Ended": format_time(attempt.ended),
        "Outcome": attempt.outcome,
        "Started": None if attempt.started is None else format_time(attempt.started),
    }
    texts |= {name: getattr(attempt, field) for name, field in _TEXTS.items()}
    stored: dict[str, Any] = {"Number": {"N": str(attempt.number)}}
    return {"M": stored | {name: {"S": _cut(text)} for name, text in texts.items() if text}}


def _attempt(entry: AttributeValue) -> Attempt | None:
    try:
        fields = decode(entry)
        if not isinstance(fields, dict):
            return None
        read: dict[str, Any] = {
            "number": fields["Number"],
            "ended": parse_time(fields["Ended"]),
            "outcome": _text(fields["Outcome"]),
        }
        if fields.get("Started"):
            read["started"] = parse_time(fields["Started"])
        for name, field in _TEXTS.items():
            read[field] = _text(fields.get(name))
        return Attempt(**read)
    except _UNREADABLE:
        return None


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"expected text, found {type(value).__name__}")
    return _cut(value) if value else None


def _cut(text: str) -> str:
    """Return the first 200 bytes of the text, without half a character at the end."""
    if text.isascii():
        return text[:MAX_TEXT_BYTES]
    return text.encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore")
