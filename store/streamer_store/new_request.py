"""A request that is about to be stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from streamer_store.models import AsyncRequest
from streamer_store.values import Item


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request that can be stored.

    - `is_drawn`: whether its id was drawn by this package.
    - `delay`: from which its time follows. None: the producer gave a time, or none.
    """

    record: AsyncRequest
    item: Item
    is_drawn: bool
    delay: timedelta | None = None
