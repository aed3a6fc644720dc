"""Where time and chance come from: both are handed in, so that tests can own them."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the wall time, in UTC."""
        ...

    def steady(self) -> float:
        """Return seconds on a clock that never goes back and counts a host's sleep."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  the one place that reads the wall clock

    def steady(self) -> float:
        return time.clock_gettime(_STEADY)


def new_id(rng: random.Random) -> str:
    """Return a random UUID (version 4) drawn from `rng`."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
