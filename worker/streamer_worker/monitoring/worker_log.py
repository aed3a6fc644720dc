"""The log of a worker process: its own lines, and those of handlers and libraries."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Any, Final, TextIO

import structlog
from typing_extensions import override

from streamer_worker.monitoring.client_loggers import (
    ClientThrottle,
    hold_sensitive_loggers,
    is_not_sensitive,
)
from streamer_worker.monitoring.console import ConsoleRenderer, console_columns, has_colors
from streamer_worker.monitoring.log_stream import LogStream, TextStream, stream_over
from streamer_worker.monitoring.log_text import INDENT, add_extra, escape, is_plain
from streamer_worker.own_logger import set_logger_factory
from streamer_worker.settings import LogSettings

# The number of shared processors, from the end, that need no logger: time, exception, escape.
_PLAIN: Final = 3
_ENCODER: Final = json.JSONEncoder(default=repr)
# Every line begins with these fields, in this order.
_HEAD: Final = ("timestamp", "level", "event", "logger")


class WorkerLog:
    """The log of this process.

    The worker's own lines bypass the root logger and the configuration of structlog, so no plugin
    can redirect, silence or extend them.
    """

    def __init__(self, settings: LogSettings, stream: TextIO | None) -> None:
        terminal = stream is not None and not stream.closed and stream.isatty()
        console = settings.format == "console" or (settings.format == "auto" and terminal)
        self._settings = settings
        self._is_json = not console
        self._stream = stream_over(stream)
        self._shared = _shared_processors(console=console)
        columns = partial(console_columns, self.descriptor if terminal else None)
        self._renderer = (
            ConsoleRenderer(colors=terminal and has_colors(), columns=columns)
            if console
            else structlog.processors.JSONRenderer(_to_json)
        )
        root = _OwnLogger("root", settings.level.upper())
        root.lines = LineHandler(self._stream, logging.Formatter(), plain=self._plain)
        self._own = logging.Manager(root)  # type: ignore[arg-type]
        self._own.loggerClass = _OwnLogger
        for name, level in settings.levels.items():
            self._own.getLogger(name).setLevel(level.upper())

    @property
    def descriptor(self) -> int | None:
        """The file descriptor that lines are written to, None if there is none."""
        return self._stream.descriptor if isinstance(self._stream, LogStream) else None

    def logger(self, name: str) -> structlog.stdlib.BoundLogger:
        """Return a logger of the worker itself."""
        logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
            self._own.getLogger(name),
            processors=[*self._shared, self._renderer],
            wrapper_class=structlog.stdlib.BoundLogger,
            context_class=dict,
            cache_logger_on_first_use=True,
        )
        return logger

    def writer(self, name: str) -> LineWriter:
        """Return a writer of the lines that `logger(name)` writes."""
        own: Any = self._own.getLogger(name)
        render = _encode if self._is_json else self._renderer  # its fields are in order already
        return LineWriter(own, [*self._shared[-_PLAIN:], render], is_json=self._is_json)

    def take_over(self) -> None:
        """Write the lines of handlers and libraries to this log, too, from structlog and from the
        standard library. Reset what plugins have configured at their import.
        """
        structlog.reset_defaults()
        structlog.configure(
            processors=[*self._shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            context_class=dict,
            cache_logger_on_first_use=True,
        )
        formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[add_extra, *self._shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                self._renderer,
            ],
        )
        handler = LineHandler(self._stream, formatter, plain=self._plain)
        handler.addFilter(is_not_sensitive)
        handler.addFilter(ClientThrottle())
        root = logging.getLogger()
        root.handlers = [handler]
        root.filters = []
        root.setLevel(self._settings.level.upper())
        logging.disable(logging.NOTSET)
        _reset_loggers()
        hold_sensitive_loggers(root.level)
        for name, level in self._settings.levels.items():
            logging.getLogger(name).setLevel(level.upper())

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _plain(self, name: str, level: int, event: dict[str, Any]) -> str:
        """Return the line for an event. Uses nothing that a plugin can replace."""
        line: Any = {"level": logging.getLevelName(level).lower(), "logger": name, **event}
        for processor in (*self._shared[-_PLAIN:], self._renderer):
            line = processor(None, "", line)
        return str(line)


def configure_logging(settings: LogSettings, *, stream: TextIO | None = None) -> WorkerLog:
    """Configure the logging of this process, and return its log.

    stream: None is stderr. A process without stderr logs nothing.

    Call `take_over` again after plugins were imported.
    """
    log = WorkerLog(settings, stream or sys.stderr)
    log.take_over()
    set_logger_factory(log.logger)
    return log


class LineHandler(logging.Handler):
    """Writes each record as one line to a stream. Never raises, and writes to no other stream.

    plain: makes a line if the formatter raises, and for the handler's own records.
    """

    def __init__(
        self,
        stream: LogStream | TextStream | None,
        formatter: logging.Formatter,
        *,
        plain: Callable[[str, int, dict[str, Any]], str],
    ) -> None:
        super().__init__()
        self._stream = stream
        self._plain = plain
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            self.write(record.name, record.levelno, self._line(record))

    def write(self, name: str, level: int, line: str) -> None:
        """Write a line of the logger `name`, and then the number of lines that were lost before."""
        if self._stream is None:
            return
        with suppress(Exception):
            if self._stream.write(f"{line}\n") and (lost := self._stream.take_lost()):
                event = {"event": "log_lines_lost", "count": lost}
                self._stream.write(self._plain(name, level, event) + "\n")

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001  the caller's arguments may not fit
            # Without the arguments, which the standard library would print.
            event = {"event": record.msg, "log_error": type(error).__name__}
            return self._plain(record.name, record.levelno, event)


class _OwnLogger(logging.Logger):
    """A logger whose lines structlog has rendered. It writes them to `lines` of its root.

    No record is made: a plugin may have set a factory of records, and making one takes longer
    than the line itself.
    """

    lines: LineHandler

    @override
    def _log(self, level: int, msg: object, *_args: Any, **_fields: Any) -> None:
        root: Any = self.manager.root
        root.lines.write(self.name, level, str(msg))


class LineWriter:
    """Writes lines of one of the worker's own loggers, as its structlog logger does.

    Makes a line without the objects and calls that structlog needs for each. Any thread.

    processors: the last ones of the chain, which need no logger. The first adds the time.
    is_json: the last one makes JSON.
    """

    def __init__(self, logger: _OwnLogger, processors: list[Any], *, is_json: bool) -> None:
        self.is_enabled = logger.isEnabledFor
        self._name = logger.name
        self._lines: LineHandler = logger.manager.root.lines  # type: ignore[attr-defined]
        self._stamp, *self._rest = processors
        self._is_json = is_json

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """Write a line with these fields, and with those that are bound to the context.

        level: one that `is_enabled` accepts.
        fields: changed by this call.
        """
        head = {"timestamp": "", "level": _level_name(level), "event": event, "logger": self._name}
        merged = structlog.contextvars.merge_contextvars(None, "", fields)
        # The order is that of the first occurrence, and the values are those of the last.
        line: Any = self._stamp(None, "", {**head, **merged, **head})
        # Most lines need no escaping, which takes longer than the JSON.
        for processor in self._rest[-1:] if self._is_json and is_plain(line) else self._rest:
            line = processor(None, "", line)
        self._lines.write(self._name, level, line)


@cache
def _level_name(level: int) -> str:
    return logging.getLevelName(level).lower()


def _shared_processors(*, console: bool) -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
        # Before anything is escaped. The console's own way shows local variables: payloads.
        structlog.processors.format_exc_info,
        partial(escape, INDENT if console else ""),
    ]


def _encode(_logger: object, _method: str, fields: Mapping[str, Any]) -> str:
    return _ENCODER.encode(fields)


def _to_json(fields: Mapping[str, Any], **_: Any) -> str:
    """Return fields that `escape` has made plain as JSON, without a new encoder for each line."""
    head = {name: fields[name] for name in _HEAD if name in fields}
    return _ENCODER.encode({**head, **fields})


def _reset_loggers() -> None:
    """Enable the loggers that a plugin's configuration has disabled."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
