"""The names that authors of handlers import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from streamer_worker.handlers.context import Context, HandlerCancelled, SyncContext
    from streamer_worker.handlers.definition import CallNext, Handler, HandlerGroup, handler
    from streamer_worker.handlers.exceptions import Reject, RetryLater
    from streamer_worker.handlers.fuse import Fuse
    from streamer_worker.handlers.schedules import Schedule
    from streamer_worker.handlers.schema import PayloadInvalid
    from streamer_worker.retry import RetryPolicy

__all__ = [
    "CallNext",
    "Context",
    "Fuse",
    "Handler",
    "HandlerCancelled",
    "HandlerGroup",
    "PayloadInvalid",
    "Reject",
    "RetryLater",
    "RetryPolicy",
    "Schedule",
    "SyncContext",
    "handler",
]

# Each name is imported when it is used. Most commands of the command line, which is a part of
# this package, need none of them, and the modules import pydantic and structlog.
_MODULES: Final = {
    "CallNext": "handlers.definition",
    "Context": "handlers.context",
    "Fuse": "handlers.fuse",
    "Handler": "handlers.definition",
    "HandlerCancelled": "handlers.context",
    "HandlerGroup": "handlers.definition",
    "PayloadInvalid": "handlers.schema",
    "Reject": "handlers.exceptions",
    "RetryLater": "handlers.exceptions",
    "RetryPolicy": "retry",
    "Schedule": "handlers.schedules",
    "SyncContext": "handlers.context",
    "handler": "handlers.definition",
}


if not TYPE_CHECKING:  # type checkers would take every name for one of this package

    def __getattr__(name: str) -> Any:
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
