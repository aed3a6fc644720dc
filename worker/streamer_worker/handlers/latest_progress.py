"""What a handler has told of its progress, merged into its newest."""

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
from streamer_worker.handlers.context import ProgressUpdate
from streamer_worker.sanitize import without_surrogates


class LatestProgress:
    """The newest of all that a handler has told. Any thread may tell."""

    def __init__(self, fraction: float) -> None:
        self.told = 0
        self._lock = threading.Lock()
        self._fraction: float | None = None
        self._message: str | None = None
        self._details: AttributeValue | None = None
        self._least = fraction

    def report(self, told: ProgressUpdate) -> bool:
        """Take it in, and return whether that changed anything.

        Lone surrogates in the message and the details are kept as escapes. Raises
        ValidationError; ItemTooLarge for what no item has room for.
        """
        message = without_surrogates(told.message)
        Progress(told.fraction, message)
        encoded = None if told.details is None else _encoded(told.details)
        _check_size(message, encoded)
        with self._lock:
            if told.fraction is not None and (told.reset or told.fraction >= self._least):
                self._fraction = self._least = told.fraction
            elif message is None and encoded is None:
                return False
            if message is not None:
                self._message = message
            if encoded is not None:
                self._details = encoded
            self.told += 1
        return True

    def newest(self) -> tuple[int, Progress]:
        """Return how much was told until now, and what it comes to."""
        with self._lock:
            told, details = self.told, self._details
            fraction, message = self._fraction, self._message
        return told, Progress(fraction, message, None if details is None else decode(details))


def _encoded(details: Mapping[str, Any]) -> AttributeValue:
    try:
        return encode_document(details, "details")
    except ValidationError:  # rare, so text is not looked through each time
        return encode_document(without_surrogates(details), "details")


def _check_size(message: str | None, details: AttributeValue | None) -> None:
    for name, value in (
        ("message", None if message is None else encode(message, "message")),
        ("details", details),
    ):
        if value is not None and (size := value_size(value)) > MAX_ITEM_BYTES:
            raise ItemTooLarge(name, f"has {size} bytes, an item may have {MAX_ITEM_BYTES}")
