"""Requests from JSON Lines: an object with the fields of a request in each line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any, BinaryIO, Final

from streamer_store import AsyncRequest, Priority, StoreError, ValidationError
from streamer_store.values import MAX_ITEM_BYTES

MAX_LINE_BYTES: Final = 4 * MAX_ITEM_BYTES
"""A longer line is refused. JSON may escape each character."""
_FIELDS: Final = (
    *("request_id", "action", "payload", "connection_id", "user_id", "tenant_id"),
    *("max_retries", "priority", "created_at", "ttl"),
)
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that is not blank, and its request or what is wrong with it."""

    number: int
    """From 1."""
    request: AsyncRequest | None = None
    error: StoreError | None = None


def read_lines(file: BinaryIO, *, id_prefix: str | None = None) -> Iterator[Line]:
    """Yield the lines of a file. `id_prefix`: names requests without an id, with their lines."""
    number = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(text) > MAX_LINE_BYTES:
            _skip_line(file, text)
            message = f"longer than {MAX_LINE_BYTES} bytes"
            yield Line(number=number, error=ValidationError("line", message))
            continue
        text = text.removeprefix(_BOM) if number == 1 else text
        if not text.strip():
            continue
        try:
            yield Line(number=number, request=_request(text, number, id_prefix))
        except ValidationError as error:
            yield Line(number=number, error=error)


def in_slices(lines: Iterable[Line], size: int) -> Iterator[list[Line]]:
    """Yield the lines in lists of up to `size`."""
    taken: list[Line] = []
    for line in lines:
        taken.append(line)
        if len(taken) == size:
            yield taken
            taken = []
    if taken:
        yield taken


def is_same(request: AsyncRequest, stored: AsyncRequest) -> bool:
    """Return whether a stored request was made from this one: the producer's fields are equal."""
    return all(
        getattr(request, name) in {None, ""} or getattr(request, name) == getattr(stored, name)
        for name in _FIELDS
        if name not in {"payload", "max_retries"}
    ) and (request.payload, request.max_retries) == (stored.payload, stored.max_retries)


def _skip_line(file: BinaryIO, text: bytes) -> None:
    while text and not text.endswith(b"\n"):
        text = file.readline(MAX_LINE_BYTES)


def _request(text: bytes, number: int, id_prefix: str | None) -> AsyncRequest:
    fields = parse_object("line", text)
    for name in fields:
        if name not in _FIELDS:
            close = get_close_matches(name, _FIELDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(_FIELDS)}"
            raise ValidationError("line", f"unknown field {name!r}{hint}")
    if "action" not in fields:
        raise ValidationError("action", "is missing")
    given = {name: value for name, value in fields.items() if value is not None}
    if id_prefix is not None:
        given.setdefault("request_id", f"{id_prefix}{number}")
    if "priority" in given:
        given["priority"] = _priority(given["priority"])
    if "created_at" in given:
        given["created_at"] = _time(given["created_at"])
    return AsyncRequest(**given)


def parse_object(field: str, text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ValidationError."""
    try:
        parsed = json.loads(text)
    except RecursionError as error:
        raise ValidationError(field, "is nested too deeply") from error
    except ValueError as error:  # not JSON, not UTF-8, or a number of thousands of digits
        raise ValidationError(field, f"not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ValidationError(field, f"must be a JSON object, not {type(parsed).__name__}")
    return parsed


def _priority(value: Any) -> Priority:
    try:
        return Priority(value)
    except ValueError as error:
        names = ", ".join(Priority)
        raise ValidationError("priority", f"{value!r} is none of {names}") from error


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValidationError("created_at", f"{value!r} is no time in ISO 8601") from error
