"""The sources of time and of random ids. Both are parameters, so that tests control them."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random

# CLOCK_MONOTONIC stops while a Linux host sleeps. CLOCK_BOOTTIME does not.
_STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """A source of time. All methods may be called from any thread."""

    def now(self) -> datetime:
        """Return the current time, in UTC. It may jump when the host's clock is set."""
        ...

    def steady(self) -> float:
        """Return seconds on a clock that never goes back. The time that a host sleeps counts."""
        ...


class SystemClock:
    """The host's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  the only place that reads the wall clock

    def steady(self) -> float:
        return time.clock_gettime(_STEADY_CLOCK)


def new_id(rng: random.Random) -> str:
    """Return a random UUID (version 4) drawn from `rng`."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
