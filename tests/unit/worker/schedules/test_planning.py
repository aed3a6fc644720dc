"""Which ticks are made after a time in which nobody made them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamer_worker.schedules.planning import Plan, plan_ticks
from unit.worker.schedules.steps import definition

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def plan(cron: str, ago: timedelta, *, paused: bool = False, **options: Any) -> Plan:
    return plan_ticks(definition(cron, **options), last_tick=NOON - ago, now=NOON, paused=paused)


def minutes(planned: Plan) -> list[int]:
    """Return how many minutes before noon the ticks are that the plan makes."""
    return [round((NOON - tick).total_seconds() / 60) for tick in planned.made]


def test_nothing_is_due_before_the_next_tick() -> None:
    """LastTick remains."""
    planned = plan("0 13 * * *", timedelta(hours=3))
    assert planned == Plan(until=NOON - timedelta(hours=3))


def test_a_tick_that_is_due_is_made() -> None:
    """At its second, and not before."""
    assert minutes(plan("0 12 * * *", timedelta(hours=3))) == [0]
    early = NOON - timedelta(microseconds=1)
    assert not plan_ticks(
        definition("0 12 * * *"), last_tick=NOON - timedelta(hours=3), now=early, paused=False
    ).made


def test_ticks_that_are_late_by_less_than_a_minute_are_all_made() -> None:
    """A schedule with seconds loses none while another worker takes over."""
    planned = plan("*/10 * * * * *", timedelta(seconds=55))
    assert (len(planned.made), planned.missed, planned.until) == (6, 0, NOON)


@pytest.mark.parametrize(
    ("missed", "made", "lost"), [("last", [10], 5), ("all", [60 - 10 * n for n in range(1, 6)], 1)]
)
def test_missed_ticks_are_made_within_catch_up(missed: str, made: list[int], lost: int) -> None:
    """The last one, or all of the last hour."""
    last_tick = NOON - timedelta(minutes=70)
    now = NOON - timedelta(minutes=1)
    planned = plan_ticks(
        definition("*/10 * * * *", missed=missed, catch_up=timedelta(minutes=58)),
        last_tick=last_tick,
        now=now,
        paused=False,
    )
    assert (minutes(planned), planned.missed) == (made, lost)
    assert planned.until == NOON - timedelta(minutes=10)


def test_a_tick_older_than_catch_up_is_missed() -> None:
    """LastTick moves past it, so that it is counted once."""
    planned = plan("0 10 * * *", timedelta(hours=3))
    assert (planned.made, planned.missed) == ([], 1)
    assert planned.until == NOON - timedelta(hours=2)


def test_without_catch_up_a_late_tick_is_still_made() -> None:
    """A takeover takes seconds."""
    planned = plan("59 11 * * *", timedelta(hours=1), catch_up=timedelta())
    assert planned.missed == 1
    planned = plan("30 59 11 * * *", timedelta(hours=1), catch_up=timedelta())
    assert len(planned.made) == 1


def test_a_paused_schedule_skips_its_ticks() -> None:
    """They are not made after the pause either."""
    planned = plan("*/10 * * * *", timedelta(minutes=30), paused=True)
    assert (planned.made, planned.missed, planned.until) == ([], 3, NOON)


@pytest.mark.parametrize("missed", ["last", "all"])
def test_a_long_time_is_gone_through_in_parts(missed: str) -> None:
    """No plan reads more than 1,000 ticks or makes more than 100. Together they miss none."""
    last_tick, lost = NOON - timedelta(hours=1), 0
    made: list[datetime] = []
    every = definition("*/2 * * * * *", missed=missed, catch_up=timedelta(hours=2))
    while True:
        planned = plan_ticks(every, last_tick=last_tick, now=NOON, paused=False)
        if planned.first is None:
            break
        assert len(planned.made) <= 100
        made += planned.made
        lost += planned.missed
        last_tick = planned.until
    assert len(set(made)) == len(made) == (1800 if missed == "all" else 30)
    assert len(made) + lost == 1800
    assert last_tick == NOON
