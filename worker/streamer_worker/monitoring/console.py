"""Draws the fields of a log record as a line for a person."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

# The columns of a line of the worker's own where the terminal's width is not known.
_COLUMNS: Final = 100
_NARROWEST: Final = 40
# The logger of the worker's own events. Lines of handlers and libraries are never cut or rounded.
_OWN: Final = "streamer_worker"
_MILLISECONDS: Final = len("12:34:56.789")
_LEVEL: Final = len("warning")

_HEAD: Final = frozenset({"timestamp", "level", "event", "logger"})
_STACKS: Final = ("stack", "stacks", "exception")
# In an event of the worker these fields come first, and those last.
_FIRST: Final = ("action", "request_id", "attempt", "outcome", "code", "loop", "seconds")
_LAST: Final = ("error_type", "error", "reason", "actions", "calls", "text")
# What is bound to the context of a handler comes after the fields of its lines.
_BOUND: Final = ("action", "request_id", "attempt", "worker_id")

_IDS: Final = frozenset({"request_id", "worker_id", "removed_by"})
# A UUID, or the id of a worker: its time of start, and a part of a UUID.
_ID: Final = re.compile(r"(?:\d{8}T\d{6}Z-)?([0-9a-f]{8})-[0-9a-f]{4}(?:-[0-9a-f-]+)?")
# Numbers below the bound have so many digits after the point.
_DIGITS: Final = ((1, 3), (10, 2), (100, 1), (math.inf, 0))

_RESET, _BOLD, _DIM, _CYAN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"
_LEVELS: Final = {
    "debug": _DIM,
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31;1m",
}


class ConsoleRenderer:
    """Renders plain fields, as `escape` returns them, as one line and, below it, its stacks.

    The line has the local time, the level, the event and the fields, the important ones first. Ids
    have 8 characters. In the worker's own events numbers are rounded, and what has no room in
    `columns` is cut.
    """

    def __init__(self, *, colors: bool, columns: Callable[[], int]) -> None:
        self._colors = colors
        self._columns = columns

    def __call__(self, _logger: Any, _method: str, fields: Mapping[str, Any]) -> str:
        is_own = fields.get("logger") == _OWN
        level, event = str(fields.get("level", "")), str(fields.get("event", ""))
        time = str(fields.get("timestamp", ""))[:_MILLISECONDS]
        parts = [
            self._paint(time, _DIM),
            self._paint(f"{level:{_LEVEL}}", _LEVELS.get(level, "")),
            self._paint(event, _BOLD),
        ]
        used = len(time) + 1 + max(_LEVEL, len(level)) + 1 + len(event)
        if not is_own:
            parts.append(self._paint(f"[{fields.get('logger', '')}]", _DIM))
        room = self._columns() - used if is_own else None
        parts += [self._paint_field(text) for text in _fitting(_texts(fields, is_own), room)]
        stacks = [str(fields[name]).rstrip() for name in _STACKS if fields.get(name)]
        return "\n".join([" ".join(parts), *stacks])

    def _paint_field(self, text: str) -> str:
        name, sign, value = text.partition("=")
        return self._paint(name, _CYAN) + sign + value

    def _paint(self, text: str, color: str) -> str:
        return f"{color}{text}{_RESET}" if self._colors and color else text


def console_columns(descriptor: int | None) -> int:
    """Return the width of a terminal. COLUMNS overrides it. Without a terminal: 100."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return max(_NARROWEST, int(columns))
    try:
        known = 0 if descriptor is None else os.get_terminal_size(descriptor).columns
    except OSError:
        known = 0
    return max(_NARROWEST, known) if known else _COLUMNS


def has_colors() -> bool:
    """Return whether a terminal may get colours: https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _texts(fields: Mapping[str, Any], is_own: bool) -> list[str]:  # noqa: FBT001
    """Return each field as `name=value`, in the order of the line."""
    names = [name for name in fields if name not in _HEAD and name not in _STACKS]
    order = _place_of_own if is_own else _place_of_bound
    return [f"{name}={_value(name, fields[name], is_own)}" for name in sorted(names, key=order)]


def _place_of_own(name: str) -> int:
    if name in _FIRST:
        return _FIRST.index(name) - len(_FIRST)
    return _LAST.index(name) + 1 if name in _LAST else 0


def _place_of_bound(name: str) -> int:
    return _BOUND.index(name) + 1 if name in _BOUND else 0


def _fitting(texts: list[str], room: int | None) -> list[str]:
    """Return the texts that fit into `room` characters, with a space before each. The first one
    that does not fit is cut. None: all of them.
    """
    if room is None:
        return texts
    fitting: list[str] = []
    for text in texts:
        if len(text) + 1 > room:
            return [*fitting, f"{text[: room - 2]}…"] if room > len("= …") else fitting
        fitting.append(text)
        room -= len(text) + 1
    return fitting


def _value(name: str, value: Any, is_own: bool) -> str:  # noqa: FBT001
    match value:
        case str():
            return _quoted(_short(value) if name in _IDS else value)
        case float() if is_own:
            return _rounded(value)
        case list() if value and all(isinstance(item, str) for item in value):
            return _quoted(",".join(value))
        case list() | dict():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def _short(text: str) -> str:
    """Return the first 8 characters of an id that the worker has made. Other ids stay whole."""
    match = _ID.fullmatch(text)
    return match[1] if match else text


def _quoted(text: str) -> str:
    """Return a text, in quotation marks if it could be taken for more than one field."""
    if text and not any(char.isspace() or char in '="' for char in text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _rounded(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    digits = next(digits for bound, digits in _DIGITS if abs(value) < bound)
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text
