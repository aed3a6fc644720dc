"""Retry policies: iterators of delays, never sleepers (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_MOST_DOUBLINGS = 30


def backoff(first: float, longest: float, rng: random.Random) -> Iterator[float]:
    """Yield delays for ever, in seconds: doubling from `first` to `longest`, with jitter.

    Each lies between half of its step and the whole of it.
    """
    for attempt in range(_MOST_DOUBLINGS):
        step = min(longest, first * 2**attempt)
        yield rng.uniform(step / 2, step)
    while True:
        yield rng.uniform(longest / 2, longest)
