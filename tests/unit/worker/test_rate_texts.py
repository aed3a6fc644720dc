"""Rates as text."""

from __future__ import annotations

from datetime import timedelta

import pytest

from streamer_store.rates import Rate
from streamer_worker.rate_texts import parse_rate, rate_text


@pytest.mark.parametrize(
    ("text", "rate", "shortest"),
    [
        ("100/m", Rate(100, timedelta(minutes=1)), "100/m"),
        ("50/s", Rate(50), "50/s"),
        ("1000/h", Rate(1000, timedelta(hours=1)), "1000/h"),
        ("5/10s", Rate(5, timedelta(seconds=10)), "5/10s"),
        (" 100 / M  burst 20 ", Rate(100, timedelta(minutes=1), 20), "100/m burst 20"),
        ("7/60s", Rate(7, timedelta(minutes=1)), "7/m"),
        ("1/d", Rate(1, timedelta(days=1)), "1/d"),
        ("9/90s burst 1", Rate(9, timedelta(seconds=90)), "9/90s"),
    ],
)
def test_a_rate_is_read_and_written(text: str, rate: Rate, shortest: str) -> None:
    """Count, period and burst. The burst is 1 unless it is given."""
    assert parse_rate(text) == rate
    assert rate_text(rate) == shortest
    assert parse_rate(shortest) == rate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fast", "'fast' is no rate such as 100/m"),
        ("", "'' is no rate"),
        ("100", "'100' is no rate"),
        ("100/min", "did you mean 100/m?"),
        ("50 per second", "did you mean 50/s?"),
        ("5 per 2 hours", "did you mean 5/2h?"),
        ("0/s", "'0/s': rate: must be 1 to 1,000,000 in a period"),
        ("1/0s", "must have a period of more than 0 s and at most a day"),
        ("1/2d", "at most a day"),
        ("99999/s", "must be at most 10,000 a second"),
        ("1/s burst 0", "'1/s burst 0': burst: must be 1 to 1,000,000"),
        ("-1/s", "is no rate"),
        ("1.5/s", "is no rate"),
        ("1/999999999d", "period"),
        ("\u0661/s", "is no rate"),
    ],
)
def test_a_text_that_is_no_rate_is_refused(text: str, words: str) -> None:
    """The error shows the text, what is allowed, and the nearest rate where there is one."""
    with pytest.raises(ValueError, match=r"^") as raised:
        parse_rate(text)
    assert words in str(raised.value)
