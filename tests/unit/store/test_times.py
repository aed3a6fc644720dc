"""RFC 3339 times, of this store and of the Go store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer_store.times import epoch, format_time, parse_time

NOON = datetime(2026, 3, 14, 12, 0, 0, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))  # noqa: DTZ001  bounds are naive


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOON, "2026-03-14T12:00:00.000000Z"),
        (NOON.replace(microsecond=1), "2026-03-14T12:00:00.000001Z"),
        (NOON.astimezone(timezone(timedelta(hours=5.5))), "2026-03-14T12:00:00.000000Z"),
        (datetime(476, 9, 4, tzinfo=UTC), "0476-09-04T00:00:00.000000Z"),
    ],
)
def test_times_are_written_in_utc_with_six_digits(moment: datetime, text: str) -> None:
    """All times have the same form, whatever their time zone."""
    assert format_time(moment) == text


@settings(derandomize=True, deadline=None)
@given(MOMENTS, MOMENTS)
def test_written_times_sort_by_time(one: datetime, other: datetime) -> None:
    """The indexes sort by this text."""
    assert (format_time(one) < format_time(other)) == (one < other)


@settings(derandomize=True, deadline=None)
@given(MOMENTS)
def test_a_written_time_is_read_back(moment: datetime) -> None:
    """Writing and reading a time loses nothing."""
    assert parse_time(format_time(moment)) == moment


@pytest.mark.parametrize("digits", range(1, 10))
def test_any_fraction_that_go_writes_is_read(digits: int) -> None:
    """A fraction has one to nine digits. Digits after the microseconds are dropped."""
    fraction = "123456789"[:digits]
    expected = NOON.replace(microsecond=int(fraction.ljust(6, "0")[:6]))
    assert parse_time(f"2026-03-14T12:00:00.{fraction}Z") == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-14T12:00:00Z",
        "2026-03-14T12:00:00+00:00",
        "2026-03-14T14:00:00+02:00",
        "2026-03-14T06:30:00-05:30",
    ],
)
def test_offsets_are_read_as_utc(text: str) -> None:
    """A time with an offset becomes the same moment in UTC."""
    moment = parse_time(text)
    assert moment == NOON
    assert moment is not None
    assert moment.tzinfo is UTC


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z"])
def test_the_zero_time_of_go_means_absent(text: str) -> None:
    """It is read as None."""
    assert parse_time(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-03-14",
        "2026-03-14T12:00:00",
        "2026-03-14 12:00:00Z",
        "2026-03-14t12:00:00z",
        "2026-03-14T12:00Z",
        "2026-03-14T12:00:00.Z",
        "2026-03-14T12:00:00.1234567890Z",
        "2026-03-14T12:00:00,5Z",
        "2026-03-14T12:00:00Z\n",
        " 2026-03-14T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-03-14T25:00:00Z",
        "2026-03-14T12:00:60Z",
        "2026-03-14T12:00:00+25:00",
        "20260314T120000Z",
        "٢٠٢٦-03-14T12:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_anything_else_is_a_value_error(text: str) -> None:
    """Text that is not RFC 3339, or not a possible time, is refused."""
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


def test_a_long_wrong_time_is_cut_in_the_error() -> None:
    """The error quotes at most 40 characters."""
    with pytest.raises(ValueError, match="not an RFC 3339 time") as caught:
        parse_time("x" * 10_000)
    assert len(str(caught.value)) < 100


def test_epoch_is_in_whole_seconds() -> None:
    """Fractions of a second are dropped."""
    assert epoch(datetime(1970, 1, 2, 0, 0, 0, 999_999, tzinfo=UTC)) == 86_400


def test_epoch_adds_the_time_to_live() -> None:
    """The second argument is added to the moment."""
    moment = datetime(1970, 1, 1, tzinfo=UTC)
    assert epoch(moment, timedelta(days=7)) == 7 * 86_400
