"""Converts the fields of a log record to plain text on one line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from structlog.typing import EventDict, WrappedLogger

from streamer_worker.sanitize import escaped, sanitized

INDENT: Final = "    "
_TRACEBACK_CHARS: Final = 16_000
_STACKS: Final = frozenset({"exception", "stack", "stacks"})
# Names of the worker's own fields. A library's field of the same name gets a prefix.
_OURS: Final = frozenset({"event", "level", "logger", "timestamp", *_STACKS})
_INNER: Final = frozenset({"_record", "_from_structlog"})
_SPECIAL: Final = _STACKS | _INNER
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({})))
_DEEPEST: Final = 8
_LARGEST: Final = 10**100


def add_extra(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the `extra` fields of a record of the standard library, and its stack."""
    for key, value in vars(event["_record"]).items():
        if key not in _STANDARD:
            event[f"extra_{key}" if key in _OURS | _INNER else key] = value
    if "stack_info" in event:
        event["stack"] = event.pop("stack_info")
    return event


def escape(
    indent: str, _logger: WrappedLogger, _method: str, event: EventDict
) -> Mapping[str, Any]:
    """Convert every field to plain text on one line. Stacks keep their lines, but each line is
    indented, so that none can pass for a record.
    """
    fields: dict[str, Any] = {}
    for key, value in event.items():
        if key not in _SPECIAL:
            fields[_line(key)] = _to_plain(value)
        elif key in _INNER:
            fields[key] = value
        elif isinstance(value, str):
            # The end of a traceback has the error.
            text = indent + escaped(value[-_TRACEBACK_CHARS:])
            fields[key] = text.replace("\n", f"\n{indent}")
        else:
            fields[key] = _to_plain(value)
    return fields


def is_plain(fields: Mapping[str, Any]) -> bool:
    """Return whether `escape` would change nothing. False if that is not known at once."""
    for name, value in fields.items():
        if name in _SPECIAL or not name.isprintable():
            return False
        kind = type(value)
        if kind is str:
            if not value.isprintable():
                return False
        elif kind is int:
            if not -_LARGEST < value < _LARGEST:
                return False
        elif kind is not bool and kind is not float:
            return False
    return True


def loggable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return log fields as plain values, which can be sent to another process."""
    return {name: _to_plain(value) for name, value in fields.items()}


def _to_plain(value: Any, depth: int = 0) -> Any:
    # Most values. A match over all types takes several times as long.
    if type(value) is str:
        return value if value.isprintable() else _line(value)
    match value:
        case None | bool() | float():
            return value
        case int() if -_LARGEST < value < _LARGEST:
            return value
        case str():
            return _line(value)
        case Mapping() if depth < _DEEPEST:
            return {_line(key): _to_plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple() | AbstractSet() if depth < _DEEPEST:
            return [_to_plain(item, depth + 1) for item in value]
    try:
        return _line(repr(value))
    except Exception:  # noqa: BLE001  an object of a handler may raise anything
        return f"<{type(value).__name__}>"


def _line(text: Any) -> str:
    if not isinstance(text, str):
        text = str(_to_plain(text, _DEEPEST))
    return text if text.isprintable() else sanitized(text).replace("\n", "\\n").replace("\t", "\\t")
