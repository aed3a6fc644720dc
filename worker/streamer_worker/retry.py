"""Retry policies: iterators of delays, never sleepers (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamer_store.backoff import full_jitter

if TYPE_CHECKING:
    import random

_MOST_DOUBLINGS = 30
_YEAR = 365 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long a failed request waits for its next attempt, in seconds.

    Exponential with full jitter: the delay after attempt n lies between 0 and
    `first` * 2**(n - 1), at most `longest`. How many attempts there are is the request's own
    MaxRetries.
    """

    first: float = 2.0
    longest: float = 900.0

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.longest <= _YEAR:
            raise ValueError("a RetryPolicy needs 0 <= first <= longest <= a year, in seconds")

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Return the seconds to wait after attempt `attempt`, which counts from 1."""
        return full_jitter(rng, attempt, first=self.first, longest=self.longest)


DEFAULT_RETRY: Final = RetryPolicy()


def backoff(first: float, longest: float, rng: random.Random) -> Iterator[float]:
    """Yield delays for ever, in seconds: doubling from `first` to `longest`, with jitter.

    Each lies between half of its step and the whole of it.
    """
    for attempt in range(_MOST_DOUBLINGS):
        step = min(longest, first * 2**attempt)
        yield rng.uniform(step / 2, step)
    while True:
        yield rng.uniform(longest / 2, longest)
