"""Draws the fields of a log record as a line for a person."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from streamer_worker.monitoring.log_text import INDENT

# The columns of a line of the worker's own where the terminal's width is not known.
_COLUMNS: Final = 100
_NARROWEST: Final = 40
# The logger of the worker's own events. Lines of handlers and libraries are never cut or rounded.
_OWN: Final = "streamer_worker"
_HANDLER: Final = "streamer_worker.handler"
_MILLISECONDS: Final = len("12:34:56.789")
_LEVEL: Final = len("warning")

_HEAD: Final = ("timestamp", "level", "event", "logger")
_STACKS: Final = ("stack", "stacks", "exception")
# The order of the fields of an event. Those that are not named are between the two.
_FIRST: Final = (
    "action",
    "request_id",
    "worker_id",
    "outcome",
    "seconds",
    "code",
    "attempt",
    "metrics_url",
)
_LAST: Final = ("reason", "host", "actions", "calls", "text", "error_type", "error")
_AFTER_OTHERS: Final = 0.5  # before the last ones
# Their values need no name.
_BARE: Final = frozenset({"action", "request_id", "worker_id", "outcome"})
# What is bound to the context of a handler, and shown before the fields of its own lines.
_BOUND: Final = ("action", "request_id", "attempt")

_IDS: Final = frozenset({"request_id", "worker_id", "removed_by"})
# A UUID, or the id of a worker: its time of start, and a part of a UUID.
_ID: Final = re.compile(r"(?:\d{8}T\d{6}Z-)?([0-9a-f]{8})-[0-9a-f]{4}(?:-[0-9a-f-]+)?")
# Numbers below the bound have so many digits after the point.
_DIGITS: Final = ((1, 3), (10, 2), (100, 1), (math.inf, 0))

_NAMED: Final = re.compile(r"(\w+)=")
# A field of which less is left is left out.
_SHORTEST_CUT: Final = 8

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

    - The line has the local time, the level, the event and the fields. An id has 8 characters.
    - In an event of the worker the important fields come first. Numbers are rounded, a flag is
      shown if it is true, and an attempt from the second on. What has no room in `columns` is cut.
    - A line of a handler or a library begins with the action and the request. The rest is whole.
    """

    def __init__(self, *, colors: bool, columns: Callable[[], int]) -> None:
        self._colors = colors
        self._columns = columns

    def __call__(self, _logger: Any, _method: str, fields: Mapping[str, Any]) -> str:
        time, level, event, logger = (str(fields.get(name, "")) for name in _HEAD)
        time = time[:_MILLISECONDS]
        shown = {name: value for name, value in fields.items() if name not in _HEAD + _STACKS}
        head = [(time, _DIM), (f"{level:{_LEVEL}}", _LEVELS.get(level, "")), (event, _BOLD)]
        if logger == _OWN:
            if "exception" not in fields:  # an error of the store, whose text says everything
                shown.pop("error_type", None)
            used = sum(len(text) + 1 for text, _ in head)
            texts = _fitting(_texts_of_event(shown), self._columns() - used + 1)
        else:
            if logger != _HANDLER:
                head.append((f"[{logger}]", _DIM))
            texts = _texts_of_line(shown)
        parts = [self._paint(*part) for part in head] + [self._paint_name(text) for text in texts]
        stacks = [_stack(fields[name]) for name in _STACKS if fields.get(name)]
        return "\n".join([" ".join(parts), *stacks])

    def _paint_name(self, text: str) -> str:
        """Paint the name of a field, if the text has one."""
        match = _NAMED.match(text)
        return text if match is None else self._paint(match[1], _CYAN) + text[match.end(1) :]

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


def _stack(value: Any) -> str:
    """Return a stack, which `escape` has indented if it is a text."""
    return value.rstrip() if isinstance(value, str) else f"{INDENT}{value}"


def _texts_of_event(fields: Mapping[str, Any]) -> list[str]:
    """Return the fields of an event of the worker, in the order of the line."""
    # Beside a request, the worker's id is often only bound to the context.
    other = frozenset({"worker_id"}) if "request_id" in fields else frozenset()
    texts = []
    for name in sorted(fields, key=lambda name: _AFTER_OTHERS if name in other else _place(name)):
        value = fields[name]
        if value is False or (name == "attempt" and value == 1) or name == "error_type":
            continue
        if value is True:
            texts.append(name)
        elif name == "error":  # the last one needs no quotation marks
            texts.append(f"{fields.get('error_type', '')}: {value}".removeprefix(": "))
        elif name == "seconds" and isinstance(value, int | float):
            texts.append(f"{_rounded(value)}s")
        elif isinstance(value, float):
            texts.append(f"{name}={_rounded(value)}")
        elif name in _BARE - other:
            texts.append(_text(name, value))
        else:
            texts.append(f"{name}={_text(name, value)}")
    return texts


def _texts_of_line(fields: Mapping[str, Any]) -> list[str]:
    """Return the fields of a line of a handler or a library: those that the worker has bound, and
    then its own.
    """
    bound = [_text(name, fields[name]) for name in ("action", "request_id") if name in fields]
    if fields.get("attempt", 1) != 1:
        bound.append(f"attempt={fields['attempt']}")
    return bound + [
        f"{name}={_text(name, value)}"
        for name, value in fields.items()
        if name not in _BOUND and not (name == "worker_id" and bound)
    ]


def _place(name: str) -> float:
    if name in _FIRST:
        return _FIRST.index(name) - len(_FIRST)
    return _LAST.index(name) + 1 if name in _LAST else 0


def _fitting(texts: list[str], room: int) -> list[str]:
    """Return the texts that fit into `room` characters, with a space before each. The first one
    that does not fit is cut.
    """
    fitting: list[str] = []
    for text in texts:
        if len(text) + 1 > room:
            return [*fitting, f"{text[: room - 2]}…"] if room > _SHORTEST_CUT else fitting
        fitting.append(text)
        room -= len(text) + 1
    return fitting


def _text(name: str, value: Any) -> str:
    """Return a value as text, in quotation marks if it could be taken for several fields."""
    match value:
        case str():
            return _quoted(_short(value) if name in _IDS else value)
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
    if text and not any(char.isspace() or char in '="' for char in text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _rounded(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    digits = next(digits for bound, digits in _DIGITS if abs(value) < bound)
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text
