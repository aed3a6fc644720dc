"""The bounds of a cache, and what is observed of its use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from streamer_store.errors import ValidationError


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUsed:
    """The cache was asked, by one or several calls.

    - `table`: its full name.
    - `hits`: keys that were served from the cache, or by a read under way.
    - `misses`: keys that were read.
    - `evictions`: keys that gave way to these because the cache was full.
    - `age`: seconds since the read of the oldest hit began. 0: there were none.
    """

    table: str
    hits: int
    misses: int
    evictions: int
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A cache of connections, and of the subscriptions to a request, in this process.

    Raises ValidationError for bounds without sense.
    """

    max_age: float = 1.0
    """Seconds for which what was read is returned, from the beginning of its read. 0: never."""
    max_items: int = 10_000
    """The most connections, and the most requests with their subscriptions."""
    absent: bool = True
    """Whether it is cached too that there is no connection, or no subscription."""
    subscriptions: bool = True
    """Whether the subscriptions to a request are cached."""
    observe: Callable[[CacheUsed], object] | None = None
    """Called for each use, in the event loop of the stores. It must not block."""

    def __post_init__(self) -> None:
        age, items = self.max_age, self.max_items
        if type(age) not in {int, float} or not 0 <= age < math.inf:
            raise ValidationError("max_age", f"must be 0 or more seconds, but is {age!r}")
        if type(items) is not int or items < 1:
            raise ValidationError("max_items", f"must be a whole number from 1, but is {items!r}")
