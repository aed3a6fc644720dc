"""Exponential backoff with full jitter."""

from __future__ import annotations

import random

import pytest

from streamer_store.backoff import full_jitter


@pytest.mark.parametrize(
    ("attempt", "limit"), [(1, 2.0), (2, 4.0), (3, 8.0), (9, 512.0), (10, 900.0), (10_000, 900.0)]
)
def test_the_delay_is_below_a_limit_that_doubles(attempt: int, limit: float) -> None:
    """The limit starts at `first`, doubles with each attempt, and ends at `longest`."""
    rng = random.Random(7)
    delays = [full_jitter(rng, attempt, first=2.0, longest=900.0) for _ in range(300)]
    assert all(0 <= delay <= limit for delay in delays)
    assert max(delays) > 0.9 * limit
    assert min(delays) < 0.1 * limit
