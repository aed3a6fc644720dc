"""Rates, blocks of permits, and the writes that take them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from streamer_store import ValidationError
from streamer_store.conditions import Below, Between, OneOf
from streamer_store.rate_limits import LIMIT_PREFIX, move_on, take_from
from streamer_store.rates import MICROSECONDS, Block, Rate
from streamer_store.write_queue import can_share_call

NOW = 1_800_000_000 * MICROSECONDS
RATE = Rate(50, burst=3)
COST = MICROSECONDS // 50


def test_taking_permits_moves_the_time_on_without_the_time_as_seen() -> None:
    """The write adds to the TAT, and requires that it is not further ahead than allowed."""
    update = move_on("mail", RATE, 4, now=NOW)
    latest = NOW + 2 * COST + MICROSECONDS // 2
    assert update.key == f"{LIMIT_PREFIX}mail"
    assert update.adds == {"TAT": {"N": str(4 * COST)}}
    assert set(update.sets) == {"TTL"}
    assert update.conditions == (Between("TAT", {"N": str(NOW)}, {"N": str(latest)}),)
    assert not can_share_call(update)


def test_the_first_permits_after_a_pause_start_now() -> None:
    """The write sets the TAT, under one that is past. Another taker's is not overwritten."""
    update = take_from({"N": str(NOW - 1)}, "mail", RATE, 4, now=NOW)
    assert update.sets["TAT"] == {"N": str(NOW + 4 * COST)}
    assert update.conditions == (Below("TAT", {"N": str(NOW)}),)
    assert not can_share_call(update)


def test_a_wrong_time_is_replaced_as_seen() -> None:
    """Of two takers that see it, one replaces it, and the other finds the new time."""
    update = take_from({"S": "x"}, "mail", RATE, 1, now=NOW)
    assert update.conditions == (OneOf("TAT", ({"S": "x"},)),)


def test_the_times_of_permits_never_exceed_the_rate_and_the_burst() -> None:
    """Proves RATE-1: of the permits of blocks in a row, a window has the rate and the burst."""
    blocks = [
        Block(rate=RATE, arrival=NOW + number * 5 * COST, permits=5, taken_at=NOW)
        for number in range(20)
    ]
    times = [block.good_from(number) for block in blocks for number in range(5)]
    for first in range(len(times)):
        for last in range(first, len(times)):
            window = times[last] - times[first]
            assert last - first + 1 <= window / COST + RATE.burst


@pytest.mark.parametrize(
    ("rate", "block", "lifetime"),
    [
        (Rate(50), 25, 0.4),
        (Rate(3), 1, 0.4),
        (Rate(1), 1, 0.9),
        (Rate(100, timedelta(minutes=1)), 1, 0.5),
        (Rate(1, timedelta(hours=1)), 1, 3599.9),
        (Rate(7, timedelta(seconds=1)), 3, 0.4),
    ],
)
def test_a_block_is_at_most_half_a_seconds_worth(rate: Rate, block: int, lifetime: float) -> None:
    """And at least one permit, which is good for as long as the next one takes to come."""
    assert rate.block == block
    assert rate.lifetime == round(lifetime * MICROSECONDS)


@pytest.mark.parametrize(
    ("count", "period", "burst"),
    [
        (0, timedelta(seconds=1), 1),
        (1_000_001, timedelta(days=1), 1),
        (10_001, timedelta(seconds=1), 1),
        (5, timedelta(), 1),
        (5, timedelta(days=1, seconds=1), 1),
        (5, timedelta(seconds=1), 0),
    ],
)
def test_a_rate_out_of_range_is_refused(count: int, period: timedelta, burst: int) -> None:
    """The error names the field."""
    with pytest.raises(ValidationError):
        Rate(count, period, burst)
