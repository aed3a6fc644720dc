"""Requests from JSON Lines: an object with the fields of a request in each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final

import typer

from streamer_store import AsyncRequest, Priority, StoreError, ValidationError
from streamer_store.values import MAX_ITEM_BYTES
from streamer_worker.cli.options import parse_duration

MAX_LINE_BYTES: Final = 4 * MAX_ITEM_BYTES
"""A longer line is refused. JSON may escape each character."""
_FIELDS: Final = (
    *("request_id", "action", "payload", "connection_id", "user_id", "tenant_id"),
    *("max_retries", "priority", "run_at", "unique_key", "unique_for", "created_at", "ttl"),
)
_CHANGING: Final = frozenset({"run_at", "ttl"})
"""Fields that change with the status of a request."""
_OPTIONAL: Final = frozenset(_FIELDS) - {"payload", "max_retries"}
"""A line that leaves these out accepts any."""
_BOM: Final = b"\xef\xbb\xbf"


class PriorityChoice(StrEnum):
    """The values of --priority, and of `priority` in a line."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def argument(self) -> Priority | None:
        """The value for a request."""
        return None if self is PriorityChoice.NORMAL else Priority(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that is not blank, and its request or what is wrong with it."""

    number: int
    """From 1."""
    request: AsyncRequest | None = None
    error: StoreError | None = None


class LineReader:
    """Turns the bytes of a file, as they come, into lines.

    `id_prefix`: names requests without an id, with the numbers of their lines.
    """

    def __init__(self, *, id_prefix: str | None = None) -> None:
        self._id_prefix = id_prefix
        self._number = 0
        self._begun = b""
        self._is_skipping = False

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that end in the data."""
        *ended, begun = (self._begun + data).split(b"\n")
        for text in ended:
            yield from self._end_line(text)
        self._begun = begun
        if len(begun) > MAX_LINE_BYTES:
            self._begun = b""
            if not self._is_skipping:
                self._is_skipping = True
                yield self._too_long(self._number + 1)

    def close(self) -> Iterator[Line]:
        """Yield the last line, if no line break ends it."""
        if self._begun:
            yield from self._end_line(self._begun)

    def _end_line(self, text: bytes) -> Iterator[Line]:
        self._number += 1
        if self._is_skipping:  # it was refused at its beginning
            self._is_skipping = False
            return
        if len(text) > MAX_LINE_BYTES:
            yield self._too_long(self._number)
            return
        text = text.removeprefix(_BOM) if self._number == 1 else text
        if not text.strip():
            return
        try:
            request = _request(text, self._number, self._id_prefix)
            yield Line(number=self._number, request=request)
        except ValidationError as error:
            yield Line(number=self._number, error=error)

    def _too_long(self, number: int) -> Line:
        message = f"longer than {MAX_LINE_BYTES} bytes"
        return Line(number=number, error=ValidationError("line", message))


def differing_fields(request: AsyncRequest, stored: AsyncRequest) -> list[str]:
    """Return the producer's fields in which a stored request is another one.

    Those that change with the status are not compared.
    """
    return [
        name
        for name in _FIELDS
        if name not in _CHANGING
        and (getattr(request, name) not in {None, ""} if name in _OPTIONAL else True)
        and getattr(request, name) != getattr(stored, name)
    ]


def _request(text: bytes, number: int, id_prefix: str | None) -> AsyncRequest:
    fields = parse_object("line", text)
    for name in fields:
        if name not in _FIELDS:
            close = get_close_matches(name, _FIELDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(_FIELDS)}"
            raise ValidationError("field", f"{name!r} is unknown{hint}")
    if "action" not in fields:
        raise ValidationError("action", "is missing")
    given = {name: value for name, value in fields.items() if value is not None}
    if id_prefix is not None and "unique_key" not in given:
        given.setdefault("request_id", f"{id_prefix}{number}")
    if "priority" in given:
        given["priority"] = _priority(given["priority"])
    for name in ("created_at", "run_at"):
        if name in given:
            given[name] = _time(name, given[name])
    if "unique_for" in given:
        given["unique_for"] = _duration("unique_for", given["unique_for"])
    if "run_at" in given:
        given["retry_after"] = given.pop("run_at")
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


def _priority(value: Any) -> Priority | None:
    try:
        return PriorityChoice(value).argument
    except ValueError as error:
        names = ", ".join(PriorityChoice)
        raise ValidationError("priority", f"{value!r} is none of {names}") from error


def _duration(name: str, value: Any) -> timedelta:
    """Return the duration that a text such as `2h`, or a number of seconds, names."""
    try:
        return timedelta(seconds=parse_duration(str(value)))
    except typer.BadParameter as error:
        raise ValidationError(name, error.message) from error


def _time(name: str, value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValidationError(name, f"{value!r} is no time in ISO 8601") from error
    if moment.tzinfo is None:
        raise ValidationError(name, f"{value!r} has no time zone: add Z for UTC, or an offset")
    return moment
