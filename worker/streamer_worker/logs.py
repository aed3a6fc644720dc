"""Structured logs: an event name and fields, from our code, handlers and libraries alike."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields
from functools import partial
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from streamer_store import CallEnded, StoreError, TryFailed
from streamer_worker.events import (
    ActionUnknown,
    CheckpointDelayed,
    ChildEnded,
    ClaimTried,
    ClockJumped,
    ConnectionRests,
    ConnectionsReaped,
    EndpointRefused,
    Event,
    FleetLooked,
    HandlerRaised,
    HandlerStuck,
    HeartbeatTried,
    ItemUndecodable,
    LifespanFailed,
    LoopBlocked,
    LoopTurned,
    PayloadRefused,
    Polled,
    ProcessEnding,
    ProgressDropped,
    ProgressWritten,
    PushBroken,
    PushTried,
    QueueMeasured,
    RequestFinished,
    RequestRescued,
    RequestStarted,
    SettleDelayed,
    SlotsChanged,
    StepFailed,
    TableDiffers,
    UnhandledMeasured,
    WorkerFenced,
    WriteFenced,
)
from streamer_worker.handlers.verdicts import Reject, RetryLater
from streamer_worker.settings import QUIET, LogSettings
from streamer_worker.texts import escaped, message_of, readable

_TRACEBACK_CHARS: Final = 16_000
_STACKS: Final = frozenset({"exception", "stack", "stacks"})
# Records have these of their own; what a library calls the same gets another name.
_OURS: Final = frozenset({"event", "level", "logger", "timestamp", *_STACKS})
_INNER: Final = frozenset({"_record", "_from_structlog"})
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({})))
_DEEPEST: Final = 8
_LARGEST: Final = 10**100
_INDENT: Final = "    "
_AS_WANTED: Final = frozenset({"completed", "released", "cancelled", "retried", "snoozed"})
# None: not told at all. What is not here is INFO.
_LEVELS: Final[dict[type[Event], int | None]] = {
    CallEnded: None,
    LoopTurned: None,
    SlotsChanged: None,
    FleetLooked: logging.DEBUG,
    Polled: logging.DEBUG,
    ProgressWritten: logging.DEBUG,
    PushTried: logging.DEBUG,
    QueueMeasured: logging.DEBUG,
    UnhandledMeasured: logging.DEBUG,
    RequestStarted: logging.DEBUG,
    TryFailed: logging.DEBUG,
    ActionUnknown: logging.WARNING,
    CheckpointDelayed: logging.WARNING,
    ChildEnded: logging.WARNING,
    ClaimTried: logging.WARNING,
    ClockJumped: logging.WARNING,
    ConnectionRests: logging.WARNING,
    EndpointRefused: logging.WARNING,
    HandlerRaised: logging.WARNING,
    HandlerStuck: logging.WARNING,
    HeartbeatTried: logging.WARNING,
    ItemUndecodable: logging.WARNING,
    LoopBlocked: logging.WARNING,
    PayloadRefused: logging.WARNING,
    ProgressDropped: logging.WARNING,
    RequestFinished: logging.WARNING,
    RequestRescued: logging.WARNING,
    SettleDelayed: logging.WARNING,
    TableDiffers: logging.WARNING,
    WorkerFenced: logging.WARNING,
    WriteFenced: logging.WARNING,
    LifespanFailed: logging.ERROR,
    ProcessEnding: logging.ERROR,
    PushBroken: logging.ERROR,
    StepFailed: logging.ERROR,
}
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


def configure_logging(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logs to `stream` (stderr), JSON or console.

    A process without stderr logs nothing.
    """
    stream = stream or sys.stderr
    if stream is not None and stream.closed:
        stream = None
    terminal = stream is not None and stream.isatty()
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Before anything is escaped. The console's own way shows local variables: payloads.
        structlog.processors.format_exc_info,
        partial(_escape, _INDENT if console else ""),
    ]
    renderer: Any
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=terminal, exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.NullHandler() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_extra, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name, level in settings.levels.items():
        logging.getLogger(name).setLevel(level.upper())


class LogListener:
    """Logs every event under its name in snake case."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger or structlog.get_logger("streamer_worker")

    def __call__(self, event: Event) -> None:
        level = _level(event)
        if level is None:
            return
        told: dict[str, Any] = {}
        for each in fields(event):
            value = getattr(event, each.name)
            if isinstance(value, BaseException):
                told["error_type"] = type(value).__name__
                if not isinstance(value, StoreError):  # those say all in a line
                    told["exc_info"] = value
                value = readable(message_of(value))
            if value is not None:
                told[each.name] = value
        self._logger.log(level, _name(event), **told)


def _name(event: Event) -> str:
    return _WORD.sub("_", type(event).__name__).lower()


def _level(event: Event) -> int | None:
    match event:
        # A verdict comes perhaps every second; how the attempt ended is told anyway.
        case ClaimTried(error=None) | HandlerRaised(error=Reject() | RetryLater()):
            return logging.DEBUG
        case HeartbeatTried(outcome="beaten") | WriteFenced(cancelled=True):
            return logging.DEBUG
        case ConnectionsReaped(found=0, undecodable=0):
            return logging.DEBUG
        case PushTried(outcome="unresolved", type=kind) if kind != "progress":
            return logging.WARNING
        case RequestFinished(outcome=outcome) if outcome in _AS_WANTED:
            return logging.INFO
    return _LEVELS.get(type(event), logging.INFO)


def _add_extra(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add what the standard library's callers give as `extra`, and the stack they ask for."""
    for key, value in vars(event["_record"]).items():
        if key not in _STANDARD:
            event[f"extra_{key}" if key in _OURS | _INNER else key] = value
    if "stack_info" in event:
        event["stack"] = event.pop("stack_info")
    return event


def _escape(
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
    return text if text.isprintable() else readable(text).replace("\n", "\\n").replace("\t", "\\t")
