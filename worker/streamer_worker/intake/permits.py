"""The permits that a worker holds of one limit, and when it asks for more (pure)."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from typing import Final

from streamer_store.rates import MICROSECONDS, Block, Rate

# Microseconds. How long a limit is asked for after a request last waited for it.
_WANTED_FOR: Final = 5 * MICROSECONDS
# The pause after the second block in a row of which nothing was used, and after each further one.
_IDLE_PAUSE: Final = MICROSECONDS


@dataclass(frozen=True, slots=True)
class Permit:
    """One permit that was taken for a claim. `time`: when it became good."""

    name: str
    time: int


@dataclass(slots=True)
class LimitCounts:
    """What happened to the permits of a limit. `saturated`: seconds in which a request waited."""

    granted: int = 0
    refused: int = 0
    expired: int = 0
    saturated: float = 0.0


class HeldPermits:
    """The permits of one limit, from the time at which each is good until it is void.

    The first ask is for one permit. An ask is for twice as many as the last one if all permits of
    that were used, and for as many as were used if some were void: so a worker with few requests
    takes little from the others. All times are in microseconds.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.counts = LimitCounts()
        self.is_asking = False
        self.asked_at = 0
        """When it was asked for last."""
        self._times: list[int] = []
        self._size = 1
        self._used = 0
        self._void = 0
        self._idle_blocks = 0
        self._ask_from = 0
        self._missed_since: int | None = None
        self._missed_at = 0

    def good(self, now: int) -> int:
        """Return how many permits are good now."""
        self._drop_void(now)
        return bisect_right(self._times, now)

    def miss(self, now: int) -> None:
        """Note that a request waits for a permit."""
        if self._missed_since is None:
            self._missed_since = now
        self._missed_at = now

    @property
    def is_missed(self) -> bool:
        """Whether a request waits for a permit."""
        return self._missed_since is not None

    @property
    def is_idle(self) -> bool:
        """Whether no request waits for a permit, and none is held."""
        return not self.is_missed and not self._times

    def use(self, now: int) -> int | None:
        """Take the permit that is void first. Return its time, or None if none is good."""
        if not self.good(now):
            return None
        self._used += 1
        return self._times.pop(0)

    def give_back(self, time: int) -> None:
        """Put a permit back that was taken for a claim that was not won."""
        self._used = max(0, self._used - 1)
        insort(self._times, time)

    def to_ask(self, now: int) -> int:
        """Return how many permits to ask for now. 0: none.

        They are asked for ahead of need: while half of the last block is left for later.
        """
        self._drop_void(now)
        if self.is_missed and now - self._missed_at > _WANTED_FOR:
            self._end_miss(self._missed_at)
        if not self.is_missed or self.is_asking or now < self._ask_from:
            return 0
        return self._next_size() if len(self._times) <= self._size // 2 else 0

    def wake(self, now: int) -> bool:
        """Return whether a request waited for a permit, and one is good now."""
        if not self.is_missed or not self.good(now):
            return False
        self._end_miss(now)
        return True

    def next_good(self) -> int | None:
        """Return when the next permit is good, for a request that waits. None: not known."""
        return self._times[0] if self.is_missed and self._times else None

    def next_ask(self, now: int) -> int | None:
        """Return when to ask next, for a request that waits. None: there are enough permits."""
        if not self.is_missed or len(self._times) > self._size // 2:
            return None
        return max(now, self._ask_from)

    def grant(self, block: Block, now: int) -> None:
        """Add a block, and note when the next one may be granted."""
        self._size = block.permits
        self._idle_blocks = self._idle_blocks + 1 if self._void and not self._used else 0
        self._used = self._void = 0  # of the last block
        self.counts.granted += block.permits
        self._times += [block.good_from(number) for number in range(block.permits)]
        self._times.sort()
        end = block.arrival + self.rate.cost(block.permits)
        pause = _IDLE_PAUSE if self._idle_blocks > 1 else 0
        self._ask_from = max(end - self.rate.allowance, now + pause)

    def refuse(self, until: int) -> None:
        """Note that no permit is granted before a time."""
        self.counts.refused += 1
        self._ask_from = until

    def take_counts(self, now: int) -> LimitCounts:
        """Return what happened since the last call."""
        self._drop_void(now)
        if self._missed_since is not None:
            self._count_miss(now)
            self._missed_since = now
        counts, self.counts = self.counts, LimitCounts()
        return counts

    def _next_size(self) -> int:
        size = max(1, self._used) if self._void else 2 * self._size if self._used else self._size
        return min(size, self.rate.block)

    def _drop_void(self, now: int) -> None:
        count = bisect_right(self._times, now - self.rate.lifetime)
        if count:
            del self._times[:count]
            self._void += count
            self.counts.expired += count

    def _end_miss(self, now: int) -> None:
        self._count_miss(now)
        self._missed_since = None

    def _count_miss(self, now: int) -> None:
        if self._missed_since is not None:
            self.counts.saturated += max(0, now - self._missed_since) / MICROSECONDS
