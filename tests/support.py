"""Things that several tests need."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

# Ahead of the real time: DynamoDB Local deletes what has expired, 20 items at a time.
START = datetime(2066, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)


def unique_prefix() -> str:
    """Return a prefix for tables of one's own."""
    return f"t{random.SystemRandom().getrandbits(48):012x}_"


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self._now = START
        self._steady = 1000.0

    def now(self) -> datetime:
        return self._now

    def steady(self) -> float:
        return self._steady

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._steady += seconds
