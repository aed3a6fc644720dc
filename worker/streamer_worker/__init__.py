"""The names that authors of handlers import."""

from streamer_worker.handlers.context import Context, HandlerCancelled, SyncContext
from streamer_worker.handlers.definition import CallNext, Handler, HandlerGroup, handler
from streamer_worker.handlers.exceptions import Reject, RetryLater
from streamer_worker.handlers.schema import PayloadInvalid
from streamer_worker.retry import RetryPolicy

__all__ = [
    "CallNext",
    "Context",
    "Handler",
    "HandlerCancelled",
    "HandlerGroup",
    "PayloadInvalid",
    "Reject",
    "RetryLater",
    "RetryPolicy",
    "SyncContext",
    "handler",
]
