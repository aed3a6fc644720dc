"""What of a record goes into a line: everything as plain text, on one line."""

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
# Records have these of their own; what a library calls the same gets another name.
_OURS: Final = frozenset({"event", "level", "logger", "timestamp", *_STACKS})
_INNER: Final = frozenset({"_record", "_from_structlog"})
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({})))
_DEEPEST: Final = 8
_LARGEST: Final = 10**100


def add_extra(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add what the standard library's callers give as `extra`, and the stack they ask for."""
    for key, value in vars(event["_record"]).items():
        if key not in _STANDARD:
            event[f"extra_{key}" if key in _OURS | _INNER else key] = value
    if "stack_info" in event:
        event["stack"] = event.pop("stack_info")
    return event


def escape(
    indent: str, _logger: WrappedLogger, _method: str, event: EventDict
) -> Mapping[str, Any]:
    """Make everything plain text on one line; the lines of stacks are indented, so that none
    looks like a record.
    """
    plain: dict[str, Any] = {}
    for key, value in event.items():
        if key in _INNER:
            plain[key] = value
        elif key in _STACKS and isinstance(value, str):
            # A traceback's last line says what happened.
            text = indent + escaped(value[-_TRACEBACK_CHARS:])
            plain[key] = text.replace("\n", f"\n{indent}")
        else:
            plain[_line(key)] = _plain(value)
    return plain


def loggable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return log fields as plain values, as a line shows them, fit to cross to a process."""
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int() if -_LARGEST < value < _LARGEST:
            return value
        case str():
            return _line(value)
        case Mapping() if depth < _DEEPEST:
            return {_line(key): _plain(each, depth + 1) for key, each in value.items()}
        case list() | tuple() | AbstractSet() if depth < _DEEPEST:
            return [_plain(each, depth + 1) for each in value]
    try:
        return _line(repr(value))
    except Exception:  # noqa: BLE001  it is somebody else's; the record must not be lost
        return f"<{type(value).__name__}>"


def _line(text: Any) -> str:
    text = text if isinstance(text, str) else str(_plain(text, _DEEPEST))
    return text if text.isprintable() else sanitized(text).replace("\n", "\\n").replace("\t", "\\t")
