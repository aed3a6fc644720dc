"""Merges the progress updates of a handler into the newest progress."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from streamer_store import ItemTooLarge, Progress, ValidationError
from streamer_store.values import (
    MAX_ITEM_BYTES,
    AttributeValue,
    decode,
    encode,
    encode_document,
    value_size,
)
from streamer_worker.handlers.worker_channel import ProgressUpdate
from streamer_worker.sanitize import without_surrogates


class LatestProgress:
    """The newest progress of an attempt. All methods may be called from any thread.

    `fraction` is the fraction that an earlier attempt reached. Smaller ones are ignored.
    """

    def __init__(self, fraction: float) -> None:
        self.updates = 0  # written and read under the lock
        self._lock = threading.Lock()
        self._fraction: float | None = None
        self._message: str | None = None
        self._details: AttributeValue | None = None
        self._least = fraction

    def report(self, update: ProgressUpdate) -> bool:
        r"""Merge an update, and return whether it changed anything.

        Lone surrogates in the message and the details become escapes (`\udcff`). Raises
        ValidationError for details that DynamoDB cannot hold, and ItemTooLarge for a message or
        details above the size limit of an item.
        """
        message = without_surrogates(update.message)
        Progress(update.fraction, message)  # raises ValidationError
        encoded = None if update.details is None else _encoded(update.details)
        _check_size(message, encoded)
        with self._lock:
            if update.fraction is not None and (update.reset or update.fraction >= self._least):
                self._fraction = self._least = update.fraction
            elif message is None and encoded is None:
                return False
            if message is not None:
                self._message = str.__str__(message)  # of a subclass that may not be unpickled
            if encoded is not None:
                self._details = encoded
            self.updates += 1
        return True

    def newest(self) -> tuple[int, Progress]:
        """Return the number of updates so far, and the progress that they result in."""
        with self._lock:
            updates, details = self.updates, self._details
            fraction, message = self._fraction, self._message
        return updates, Progress(fraction, message, None if details is None else decode(details))


def _encoded(details: Mapping[str, Any]) -> AttributeValue:
    try:
        return encode_document(details, "details")
    except ValidationError:  # rare: texts are searched for surrogates only then
        return encode_document(without_surrogates(details), "details")


def _check_size(message: str | None, details: AttributeValue | None) -> None:
    for name, value in (
        ("message", None if message is None else encode(message, "message")),
        ("details", details),
    ):
        if value is not None and (size := value_size(value)) > MAX_ITEM_BYTES:
            raise ItemTooLarge(name, f"has {size} bytes, an item may have {MAX_ITEM_BYTES}")
