"""Delays between attempts."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from streamer_worker.retry import DEFAULT_RETRY, RetryPolicy, backoff


def test_delays_double_up_to_the_longest() -> None:
    """Each lies between half of its step and the whole of it."""
    delays = islice(backoff(1.0, 10.0, random.Random(1)), 6)
    for delay, step in zip(delays, [1, 2, 4, 8, 10, 10], strict=True):
        assert step / 2 <= delay <= step


def test_delays_differ() -> None:
    """Workers that failed together do not come back together."""
    firsts = {next(backoff(1.0, 10.0, random.Random(seed))) for seed in range(20)}
    assert len(firsts) == 20


def test_one_seed_gives_one_sequence() -> None:
    """The delays come from the generator that is handed in, and from nothing else."""
    first, second = (list(islice(backoff(1, 10, random.Random(3)), 9)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("longest", [10.0, 1e12])
def test_delays_never_end_and_never_overflow(longest: float) -> None:
    """After thousands of failures there is still a next delay within bounds."""
    delays = list(islice(backoff(0.001, longest, random.Random(1)), 5000))
    assert all(longest / 2 <= delay <= longest for delay in delays[-4000:])


def test_the_first_is_never_beyond_the_longest() -> None:
    """A first step above the longest is cut to it."""
    assert next(backoff(60.0, 5.0, random.Random(1))) <= 5.0


@pytest.mark.parametrize(
    ("policy", "attempt", "most"),
    [
        (RetryPolicy(first=1, longest=100), 1, 1),
        (RetryPolicy(first=1, longest=100), 4, 8),
        (RetryPolicy(first=1, longest=100), 50, 100),
        (RetryPolicy(first=1, longest=100), 10**9, 100),
        (RetryPolicy(first=0, longest=0), 3, 0),
        (DEFAULT_RETRY, 1, 2),
        (DEFAULT_RETRY, 30, 900),
    ],
)
def test_a_policy_waits_anything_up_to_its_step(
    policy: RetryPolicy, attempt: int, most: float
) -> None:
    """Full jitter: from nothing to the step, which doubles up to the longest."""
    rng = random.Random(7)
    delays = [policy.delay(attempt, rng) for _ in range(500)]
    assert 0 <= min(delays) <= most * 0.05
    assert most * 0.95 <= max(delays) <= most


@pytest.mark.parametrize(
    ("first", "longest"),
    [(-1, 5), (5, 1), (1, float("inf")), (float("nan"), 1), (1, float("nan")), (1, 4e7)],
)
def test_a_policy_that_makes_no_sense_is_refused(first: float, longest: float) -> None:
    """Where it is written, not when the first request fails."""
    with pytest.raises(ValueError, match="RetryPolicy"):
        RetryPolicy(first=first, longest=longest)
