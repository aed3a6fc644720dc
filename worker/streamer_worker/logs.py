"""Structured logs: an event name and fields, from our code, handlers and libraries alike."""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import fields
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from streamer_store import StoreError
from streamer_worker.events import (
    ClaimTried,
    ConnectionsReaped,
    Event,
    HandlerRaised,
    ItemUndecodable,
    Polled,
    ProgressDropped,
    RequestFinished,
    RequestStarted,
    SettleDelayed,
    SlotsChanged,
    StepFailed,
    TableDiffers,
)
from streamer_worker.outcome import escaped, message_of, readable
from streamer_worker.settings import LogSettings

_TRACEBACK_CHARS: Final = 16_000
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


def configure_logging(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logs to `stream` (stderr), JSON or console."""
    stream = stream or sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Before anything is escaped. The console's own way shows local variables: payloads.
        structlog.processors.format_exc_info,
        _escape,
    ]
    renderer: Any
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    # The AWS client tells bodies of requests at lower levels.
    for name in ("botocore", "aiobotocore", "aiohttp"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


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
        case SlotsChanged():
            return None
        case Polled() | RequestStarted():
            return logging.DEBUG
        case ClaimTried(error=error):
            return logging.DEBUG if error is None else logging.WARNING
        case ConnectionsReaped(found=found, undecodable=undecodable):
            return logging.INFO if found or undecodable else logging.DEBUG
        case RequestFinished(outcome="completed" | "released" | "cancelled"):
            return logging.INFO
        case StepFailed():
            return logging.ERROR
        case HandlerRaised() | RequestFinished() | SettleDelayed() | ProgressDropped():
            return logging.WARNING
        case TableDiffers() | ItemUndecodable():
            return logging.WARNING
    return logging.INFO


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: _escaped(key, value) for key, value in event.items()}


def _escaped(key: str, value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    # A traceback's last line says what happened.
    return escaped(value[-_TRACEBACK_CHARS:]) if key == "exception" else readable(value)
