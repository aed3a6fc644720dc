"""What a handler author imports."""

from streamer_worker.handlers.context import Context, SyncContext
from streamer_worker.handlers.definition import Handler, handler
from streamer_worker.handlers.verdicts import Reject, RetryLater
from streamer_worker.retry import RetryPolicy

__all__ = ["Context", "Handler", "Reject", "RetryLater", "RetryPolicy", "SyncContext", "handler"]
