"""Delays before retries (pure): nothing here sleeps."""

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
    """The delays between the attempts of a failed request, in seconds.

    Exponential with full jitter: the delay after attempt n is drawn between 0 and
    `first` * 2**(n - 1), at most `longest`. The number of attempts is not decided here, but by
    the request's MaxRetries. Raises ValueError unless 0 <= first <= longest <= a year.
    """

    first: float = 2.0
    longest: float = 900.0

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.longest <= _YEAR:
            raise ValueError(
                f"a RetryPolicy needs 0 <= first <= longest <= a year, in seconds,"
                f" not first={self.first} and longest={self.longest}"
            )

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Return the seconds to wait after attempt `attempt`, which counts from 1."""
        return full_jitter(rng, attempt, first=self.first, longest=self.longest)


DEFAULT_RETRY: Final = RetryPolicy()


def backoff(first: float, longest: float, rng: random.Random) -> Iterator[float]:
    """Yield delays in seconds, without end. Step n is `first` * 2**n, at most `longest`, and the
    delay is drawn between half of the step and the whole of it.
    """
    for attempt in range(_MOST_DOUBLINGS):
        step = min(longest, first * 2**attempt)
        yield rng.uniform(step / 2, step)
    while True:
        yield rng.uniform(longest / 2, longest)
