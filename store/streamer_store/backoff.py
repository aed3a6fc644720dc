"""Exponential backoff with full jitter (pure).

Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

_MAX_DOUBLINGS: Final = 30


def full_jitter(rng: random.Random, attempt: int, *, first: float, longest: float) -> float:
    """Return the seconds to wait after attempt `attempt`, which counts from 1.

    The delay is drawn from 0 to `first` * 2**(attempt - 1), at most `longest`.
    """
    return rng.uniform(0, min(longest, first * 2 ** min(attempt - 1, _MAX_DOUBLINGS)))
