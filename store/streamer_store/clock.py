"""The sources of time and of random ids. Both are parameters, so that tests control them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import random

# CLOCK_MONOTONIC stops while a Linux host sleeps. CLOCK_BOOTTIME does not.
_STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# The bits that neither the version nor the variant fixes (RFC 9562, section 4).
_UUID_BITS: Final = ~(0xF << 76 | 0x3 << 62)
_UUID_VARIANT: Final = 0x2 << 62


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
    return uuid_text(rng.getrandbits(128), version=4)


def uuid_text(bits: int, *, version: int) -> str:
    """Return the text of `uuid.UUID(int=bits, version=version)`, in a third of the time."""
    text = f"{bits & _UUID_BITS | version << 76 | _UUID_VARIANT:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
