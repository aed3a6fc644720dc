"""What a handler author imports."""

from streamer_worker.handlers.context import Context
from streamer_worker.handlers.definition import Handler, handler

__all__ = ["Context", "Handler", "handler"]
