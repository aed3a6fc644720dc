"""Times as text: those of this store are sortable, and those of Go can be read."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from properties.strategies import times
from streamer_store.times import format_time, parse_time

fractions = st.text("0123456789", min_size=1, max_size=9)


@given(times)
def test_times_are_read_back(moment: datetime) -> None:
    """Formatting and parsing give the same moment, for any time zone."""
    assert parse_time(format_time(moment)) == moment


@given(times, times)
def test_text_sorts_by_time(one: datetime, other: datetime) -> None:
    """The indexes sort by this text."""
    assert (format_time(one) < format_time(other)) == (one < other)


@given(times, fractions)
def test_go_times_are_read_to_the_microsecond(moment: datetime, fraction: str) -> None:
    """One to nine digits and any offset are read. Digits after the microseconds are dropped."""
    whole = moment.replace(microsecond=0)
    offset = whole.isoformat().removeprefix(whole.replace(tzinfo=None).isoformat())
    text = f"{whole.replace(tzinfo=None).isoformat()}.{fraction}{offset}"
    expected = whole + timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
    assert parse_time(text) == expected


@given(st.one_of(st.text(), times.map(format_time), st.text("0123456789-:TZ+.", max_size=36)))
def test_other_text_is_a_value_error(text: str) -> None:
    """Text that is not a time raises ValueError and nothing else."""
    try:
        parsed = parse_time(text)
    except ValueError:
        return
    assert parsed is None or format_time(parsed)
