"""When the ticks of a cron expression are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer_worker.cron import CronExpression, ExpressionInvalid

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 22, tzinfo=UTC)
SPRING = datetime(2027, 3, 27, 23, tzinfo=UTC)


def times(cron: str, start: datetime, hours: float, zone: str = "Europe/Berlin") -> list[str]:
    """Return the ticks of so many hours, in UTC."""
    return [f"{tick:%H:%M}" for tick in _until(cron, start, start + timedelta(hours=hours), zone)]


def _until(cron: str, start: datetime, end: datetime, zone: str) -> Iterator[datetime]:
    for tick in CronExpression(cron, zone).after(start):
        if tick > end:
            return
        yield tick


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["00:30"]),
        ("0 3 * * *", ["02:00"]),
        ("15 2,3 * * *", ["00:15", "02:15"]),
        ("*/30 2 * * *", ["00:00", "00:30", "01:00", "01:30"]),
        ("0 * * * *", ["23:00", "00:00", "01:00", "02:00", "03:00", "04:00"]),
        ("0 30 2 * * *", ["00:30", "01:30"]),
    ],
)
def test_the_hour_that_is_twice(cron: str, expected: list[str]) -> None:
    """On 2026-10-25 in Berlin 02:00 to 03:00 is twice: a fixed time comes once, the first time."""
    assert times(cron, AUTUMN, 6.5) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["01:00"]),
        ("0,30 2 * * *", ["01:00"]),
        ("0 3 * * *", ["01:00"]),
        ("*/30 2 * * *", []),
        ("0 * * * *", ["00:00", "01:00", "02:00", "03:00"]),
    ],
)
def test_the_hour_that_is_missing(cron: str, expected: list[str]) -> None:
    """On 2027-03-28 in Berlin 02:00 to 03:00 does not exist: a fixed time comes at 03:00, once."""
    assert times(cron, SPRING, 4) == expected


def test_the_next_fixed_time_after_the_hour_that_is_twice_has_begun_again() -> None:
    """From 02:15 of the second hour on, 02:30 is the next day's, not 00:30 UTC, which has been."""
    second = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    assert next(CronExpression("30 2 * * *", "Europe/Berlin").after(second)) == datetime(
        2026, 10, 26, 1, 30, tzinfo=UTC
    )


@settings(max_examples=150, deadline=None)
@given(
    cron=st.sampled_from(
        [
            *("30 2 * * *", "*/15 * * * *", "0,30 2,3 * * *", "59 * * * *", "7 */2 * * *"),
            *("0 3 * * 0", "*/20 30 2 * * *", "0 0 L * *", "30 1-3 * * *"),
        ]
    ),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    minutes=st.integers(0, 210 * 24 * 60),
)
def test_ticks_are_the_same_from_every_start(cron: str, zone: str, minutes: int) -> None:
    """A worker that begins at a tick finds the ticks that follow it, in order, each once."""
    expression = CronExpression(cron, zone)
    ticks = list(islice(expression.after(OCTOBER + timedelta(minutes=minutes)), 8))
    assert all(earlier < later for earlier, later in pairwise(ticks))
    for tick, following in pairwise(ticks):
        assert next(expression.after(tick)) == following
        assert next(expression.after(following - timedelta(microseconds=1))) == following


@pytest.mark.parametrize(
    ("cron", "text"),
    [
        ("0 25 * * *", "the hour '25' is not 0-23, a list, a range or a step"),
        ("61 * * * *", "the minute '61' is not 0-59"),
        ("0 0 * FOO *", "the month 'FOO' is not 1-12 or JAN-DEC"),
        ("0 0 * JANUARY *", "a range or a step; the nearest is JAN"),
        ("0 0 * * MO", "a range or a step; the nearest is MON"),
        ("0 0 * * MOON", "a range or a step; the nearest is MON"),
        ("60 0 0 * * *", "the second '60' is not 0-59"),
        ("0 0 31 2 *", "the day-of-month '31' is in none of the months"),
        ("* * * *", "has 4 fields instead of 5: minute, hour"),
        ("", "has 0 fields"),
        ("@daily", "write '0 0 * * *'"),
        ("* * */20 * 1L", "never comes"),
        ("*/0 * * * *", "the minute"),
        ("1L/2 * * * *", "the minute"),
        ("0" * 201, "longer than 200 characters"),
    ],
)
def test_an_expression_that_cannot_be_read_is_explained(cron: str, text: str) -> None:
    """The field, what it has, and what it may have."""
    with pytest.raises(ExpressionInvalid) as caught:
        CronExpression(cron, "UTC")
    assert text in str(caught.value)


@given(st.text("0123456789*/-,L#WMONJA @", max_size=20))
def test_any_text_is_an_expression_or_a_fault(text: str) -> None:
    """No other error escapes."""
    with suppress(ExpressionInvalid):
        assert CronExpression(text, "UTC").text == text


@pytest.mark.parametrize(
    ("zone", "nearest"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("../etc/passwd", ""),
        ("", ""),
        ("a\x00b", ""),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest(zone: str, nearest: str) -> None:
    """Also by the name of its city, and in another case."""
    with pytest.raises(ExpressionInvalid, match=f"the nearest is {nearest}"):
        CronExpression("0 3 * * *", zone)


@pytest.mark.parametrize("zone", ["CEST", "PST", "+01:00", "UTC+2"])
def test_the_short_name_of_a_time_is_no_zone(zone: str) -> None:
    """The nearest name would be another time."""
    with pytest.raises(ExpressionInvalid, match="name a place, such as Europe/Berlin"):
        CronExpression("* * * * *", zone)
