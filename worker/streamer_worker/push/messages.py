"""What a connection is told, and how it is written (pure)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

from streamer_store import EventType

# Amazon API Gateway quotas: the largest payload of a WebSocket message.
MAX_BYTES: Final = 128 * 1024
_PERCENT_DIGITS: Final = 2
# A character is twelve bytes at most, as a pair of escapes.
_MOST_CHARS: Final = MAX_BYTES // 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressMessage:
    """`connection_id` is the request's own connection, None where nobody knows it."""

    type: ClassVar[EventType] = EventType.PROGRESS

    request_id: str
    connection_id: str | None
    at: datetime
    fraction: float
    message: str | None
    details: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteMessage:
    type: ClassVar[EventType] = EventType.COMPLETE

    request_id: str
    connection_id: str | None
    at: datetime
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorMessage:
    type: ClassVar[EventType] = EventType.ERROR

    request_id: str
    connection_id: str | None
    at: datetime
    code: str
    text: str


Message = ProgressMessage | CompleteMessage | ErrorMessage


def encode(message: Message) -> bytes:
    """Return the JSON that clients know. What makes it longer than 128 KB is left out, and the
    message says so.
    """
    match message:
        case ProgressMessage():
            return _progress(message)
        case CompleteMessage(result=result):
            whole = _json(message, success=True, result=result)
            if len(whole) <= MAX_BYTES:
                return whole
            return _json(message, success=True, result=None, result_omitted=True)
    return _error(message)


def _error(told: ErrorMessage) -> bytes:
    whole = _json(told, error={"code": told.code, "message": told.text})
    if len(whole) <= MAX_BYTES:
        return whole
    # Another program may have written a text of any length into the table.
    return _json(told, error={"code": told.code[:_MOST_CHARS], "message": told.text[:_MOST_CHARS]})


def _progress(told: ProgressMessage) -> bytes:
    percentage = round(100 * told.fraction, _PERCENT_DIGITS)
    text = told.message or ""
    whole = _json(told, percentage=percentage, message=text, metadata=told.details or {})
    if len(whole) <= MAX_BYTES:
        return whole
    shorter = text[:_MOST_CHARS]
    return _json(told, percentage=percentage, message=shorter, metadata={}, metadata_omitted=True)


def _json(message: Message, /, **fields: Any) -> bytes:
    whole = {
        "type": message.type.value,
        "request_id": message.request_id,
        **fields,
        "timestamp": int(message.at.timestamp()),
    }
    text = json.dumps(whole, default=_plain, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def _plain(value: object) -> Any:
    match value:
        case Decimal():
            return float(value)
        case bytes():
            return base64.b64encode(value).decode()
        case set() | frozenset():
            return sorted(value)
        case Mapping():
            return dict(value)
    raise TypeError(f"{type(value).__name__} is not what a table holds")
