"""The ErrorCodes that the worker sets. Handlers set others with `Reject`."""

from __future__ import annotations

from typing import Final

from streamer_store.claims import INVALID_REQUEST, ITEM_TOO_LARGE

CANCELLED: Final = "CANCELLED"
INVALID_ACTION: Final = "INVALID_ACTION"
INVALID_CHECKPOINT: Final = "INVALID_CHECKPOINT"
INVALID_RESULT: Final = "INVALID_RESULT"
PROCESSING_FAILED: Final = "PROCESSING_FAILED"
TIMEOUT: Final = "TIMEOUT"
VALIDATION_ERROR: Final = "VALIDATION_ERROR"
WORKER_CRASHED: Final = "WORKER_CRASHED"
WORKER_LOST: Final = "WORKER_LOST"

__all__ = [
    "CANCELLED",
    "INVALID_ACTION",
    "INVALID_CHECKPOINT",
    "INVALID_REQUEST",
    "INVALID_RESULT",
    "ITEM_TOO_LARGE",
    "PROCESSING_FAILED",
    "TIMEOUT",
    "VALIDATION_ERROR",
    "WORKER_CRASHED",
    "WORKER_LOST",
]
