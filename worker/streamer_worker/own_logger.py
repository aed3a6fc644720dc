"""The worker's own loggers, which plugins cannot change by configuring structlog."""

from __future__ import annotations

from collections.abc import Callable

import structlog

LoggerFactory = Callable[[str], structlog.stdlib.BoundLogger]


def _configured(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


class _Process:
    """The logger factory of this process. Set at start, before other threads run; any thread
    reads it.
    """

    factory: LoggerFactory = staticmethod(_configured)


def set_logger_factory(factory: LoggerFactory | None) -> None:
    """Make `get_logger` use `factory`. None: structlog's global configuration is used, as in tests
    of handlers.
    """
    _Process.factory = staticmethod(factory or _configured)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return one of the worker's own loggers. Any thread."""
    return _Process.factory(name)
