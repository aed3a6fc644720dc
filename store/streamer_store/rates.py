"""Rates of permits, and the permits that a taker holds (pure).

All times are whole microseconds since 1970, by a clock on which all takers agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from streamer_store.errors import ValidationError

MICROSECONDS: Final = 1_000_000
BLOCK: Final = MICROSECONDS // 2
"""A block has at most the permits of this time, but at least one."""
_CLAIM: Final = MICROSECONDS // 10
_MAX_COUNT: Final = 1_000_000
_MAX_PER_SECOND: Final = 10_000
_MAX_PERIOD: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many permits in each period. They are spread evenly over it, beside the burst.

    - `count`: permits in each period, 1,000,000 at most and 10,000 a second at most.
    - `period`: a day at most.
    - `burst`: how many permits may be used at once after a pause. 1: none are saved up.
    """

    count: int
    period: timedelta = timedelta(seconds=1)
    burst: int = 1

    def __post_init__(self) -> None:
        """Raise ValidationError for a value out of its range."""
        if not 1 <= self.count <= _MAX_COUNT:
            raise ValidationError("rate", f"must be 1 to {_MAX_COUNT:,} in a period")
        if not timedelta() < self.period <= _MAX_PERIOD:
            raise ValidationError("rate", "must have a period of more than 0 s and at most a day")
        if self.count > _MAX_PER_SECOND * self.period.total_seconds():
            raise ValidationError("rate", f"must be at most {_MAX_PER_SECOND:,} a second")
        if not 1 <= self.burst <= _MAX_COUNT:
            raise ValidationError("burst", f"must be 1 to {_MAX_COUNT:,}")

    def cost(self, permits: int) -> int:
        """Return the time that passes for so many permits, rounded up."""
        return -(-permits * round(self.period.total_seconds() * MICROSECONDS) // self.count)

    @property
    def block(self) -> int:
        """How many permits are taken at once at most."""
        return max(1, BLOCK // self.cost(1))

    @property
    def lifetime(self) -> int:
        """How long a permit is good, from its own time on.

        Half a second, or the time between two permits, without the time that a claim takes: so
        starts keep to the rate, and not only the uses of permits.
        """
        return max(BLOCK, self.cost(1)) - _CLAIM

    @property
    def allowance(self) -> int:
        """How far the theoretical arrival time may be ahead of a taker that is not refused.

        The burst, and the time for which permits are taken before they are good.
        """
        return self.cost(self.burst - 1) + BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Permits that were granted together.

    - `arrival`: the theoretical arrival time (TAT) of the first permit.
    - `taken_at`: when they were granted. None is good before that.
    """

    rate: Rate
    arrival: int
    permits: int
    taken_at: int

    def good_from(self, number: int) -> int:
        """Return the time from which a permit may be used, counted from 0.

        RATE-1: so the times of all permits of a limit never exceed its rate and its burst.
        """
        own = self.arrival + self.rate.cost(number) - self.rate.cost(self.rate.burst - 1)
        return max(own, self.taken_at)

    def good_until(self, number: int) -> int:
        """Return the time from which a permit is void. Nobody needs to give it back."""
        return self.good_from(number) + self.rate.lifetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No permit was granted. `retry_at`: when one may be, unless another taker comes first."""

    retry_at: int
