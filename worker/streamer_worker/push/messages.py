"""The messages that are pushed to connections, and their JSON (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from sys import getsizeof
from typing import Any, ClassVar, Final

from streamer_store import EventType
from streamer_store.times import format_time
from streamer_worker.json_values import to_json
from streamer_worker.push.message_queue import MessageKind

# Amazon API Gateway quotas: the largest payload of a WebSocket message.
MAX_BYTES: Final = 128 * 1024
_PERCENT_DIGITS: Final = 2
# A character takes twelve bytes at most, as a pair of escapes.
_MAX_CHARS: Final = MAX_BYTES // 32


# Bytes of memory that a message takes without its values, roughly.
_BASE_SIZE: Final = 500
# Bytes at which `memory_size` stops counting. The values of an item of 400 KB take less.
_MAX_SIZE: Final = 16_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """The fields of every message.

    request_id: the request that the message is about.
    connection_id: the request's own connection. None: it has none, or it is unknown.
    at: time of the message.
    run: CreatedAt of a request with a unique key, whose id later runs have, too. None: another
        request.
    """

    type: ClassVar[str]
    # The fields whose size varies.
    _sized: ClassVar[tuple[str, ...]]

    request_id: str
    connection_id: str | None
    at: datetime
    run: datetime | None = None
    _size: int = field(default=0, init=False, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Bytes of memory that the message takes, roughly. Counted only where messages wait."""
        if not self._size:
            values = (getattr(self, name) for name in self._sized)
            object.__setattr__(self, "_size", _BASE_SIZE + memory_size(*values))
        return self._size

    @property
    def kind(self) -> MessageKind:
        return MessageKind.FINAL

    @property
    def is_final(self) -> bool:
        """Whether the request has ended."""
        return self.kind is MessageKind.FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressMessage(_Message):
    """The progress of a request.

    fraction: 0 to 1.
    message: text of the handler.
    details: further values of the handler.
    kept: whether newer messages of the request do not replace this one while it waits.
    """

    type: ClassVar[str] = EventType.PROGRESS
    _sized: ClassVar[tuple[str, ...]] = ("message", "details")

    fraction: float
    message: str | None
    details: Mapping[str, Any] | None
    kept: bool = False

    @property
    def kind(self) -> MessageKind:
        return MessageKind.ORDERED if self.kept else MessageKind.PROGRESS


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteMessage(_Message):
    """A request has completed, with this result.

    success_in_result: the JSON has `success` inside `result` too. A handler's own one is kept.
    """

    type: ClassVar[str] = EventType.COMPLETE
    _sized: ClassVar[tuple[str, ...]] = ("result",)

    result: Mapping[str, Any]
    success_in_result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorMessage(_Message):
    """A request has failed or was cancelled.

    code: error code, for programs.
    text: error text, for people.
    """

    type: ClassVar[str] = EventType.ERROR
    _sized: ClassVar[tuple[str, ...]] = ("code", "text")

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerMessage(_Message):
    """A message of a request's handler.

    attempt: number of the attempt, from 1.
    data: the handler's value, as JSON.
    user, tenant: whose connections get it. None: the request's own connection.
    """

    type: ClassVar[str] = "message"
    _sized: ClassVar[tuple[str, ...]] = ("data",)

    attempt: int
    data: str
    user: str | None
    tenant: str | None

    @property
    def kind(self) -> MessageKind:
        return MessageKind.ORDERED


Message = ProgressMessage | CompleteMessage | ErrorMessage | HandlerMessage


def encode(message: Message) -> bytes:
    """Return the JSON that is posted, of MAX_BYTES at most.

    If it would be longer, fields are removed or cut:

    1. Progress loses its details, and its text is cut. `metadata_omitted` is true.
    2. A completion loses its result, except `success` inside it. `result_omitted` is true.
    3. The code and the text of an error are cut.

    A handler's own message is never longer (`client_message.MAX_BYTES`).
    """
    match message:
        case ProgressMessage():
            return _encode_progress(message)
        case CompleteMessage():
            return _encode_complete(message)
        case ErrorMessage():
            return _encode_error(message)
        case HandlerMessage():
            fields = _json(message, attempt=message.attempt).decode().removesuffix("}")
            return f'{fields},"data":{message.data}}}'.encode()


def _encode_progress(message: ProgressMessage) -> bytes:
    percentage = round(100 * message.fraction, _PERCENT_DIGITS)
    text = message.message or ""
    data = _json(message, percentage=percentage, message=text, metadata=message.details or {})
    if len(data) <= MAX_BYTES:
        return data
    text = text[:_MAX_CHARS]
    return _json(message, percentage=percentage, message=text, metadata={}, metadata_omitted=True)


def _encode_complete(message: CompleteMessage) -> bytes:
    result, omitted = message.result, None
    if message.success_in_result:
        result = {"success": True, **result}
        omitted = {"success": result["success"] is not False}
    data = _json(message, success=True, result=result)
    if len(data) <= MAX_BYTES:
        return data
    return _json(message, success=True, result=omitted, result_omitted=True)


def _encode_error(message: ErrorMessage) -> bytes:
    data = _json(message, error={"code": message.code, "message": message.text})
    if len(data) <= MAX_BYTES:
        return data
    # Another program may have written a text of any length into the table.
    code, text = message.code[:_MAX_CHARS], message.text[:_MAX_CHARS]
    return _json(message, error={"code": code, "message": text})


def _json(message: Message, /, **fields: Any) -> bytes:
    document = {
        "type": str(message.type),
        "request_id": message.request_id,
        **({} if message.run is None else {"created_at": format_time(message.run)}),
        **fields,
        "timestamp": int(message.at.timestamp()),
    }
    text = json.dumps(document, default=to_json, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def memory_size(*values: object) -> int:
    """Return the bytes of memory that values take, with all that is in them.

    A value that is in several places counts in each. Counting stops at 16 MB.
    """
    size = 0
    pending = list(values)
    while pending and size < _MAX_SIZE:
        value = pending.pop()
        size += getsizeof(value)
        if isinstance(value, dict):
            pending += value
            pending += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            pending += value
        elif isinstance(value, Mapping):
            pending += value.keys()
            pending += value.values()
    return size
