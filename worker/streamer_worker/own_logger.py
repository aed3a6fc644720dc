"""The loggers of the worker itself, whatever plugins make of the global configuration."""

from __future__ import annotations

from collections.abc import Callable

import structlog

LoggerFactory = Callable[[str], structlog.stdlib.BoundLogger]


def _configured(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


class _Process:
    """Logging belongs to a process, as structlog's own configuration does."""

    factory: LoggerFactory = staticmethod(_configured)


def set_logger_factory(factory: LoggerFactory | None) -> None:
    """Make `get_logger` use `factory`. None: structlog's configuration, as in tests of handlers."""
    _Process.factory = staticmethod(factory or _configured)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger of the worker itself."""
    return _Process.factory(name)
