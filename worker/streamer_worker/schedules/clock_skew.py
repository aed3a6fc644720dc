"""How far a worker's wall clock is from DynamoDB's."""

from __future__ import annotations

from collections.abc import Callable

ClockSkew = Callable[[], float]
"""Returns the worker's wall clock minus DynamoDB's, in seconds, as the last answers showed it."""


def no_skew() -> float:
    """Return 0: nothing measures the clocks."""
    return 0.0
