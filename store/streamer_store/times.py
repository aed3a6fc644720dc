"""RFC 3339 times, as the tables store them (pure).

The tables are sorted by the text of a time, so the order of texts matters here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Go's zero time. The Go store writes it for an absent time.
NEVER = datetime(1, 1, 1, tzinfo=UTC)
# The text of a time with a UTC offset sorts up to a day away from that of the same time in UTC.
MAX_OFFSET = timedelta(days=1)


def format_time(moment: datetime) -> str:
    """Return `moment` in UTC, with six fractional digits and `Z`. Such texts sort by time."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def format_second(moment: datetime) -> str:
    """Return a text that sorts before every UTC time within the second of `moment`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def text_before(moment: datetime) -> str:
    """Return a text that sorts before every time from `moment` on, with any UTC offset."""
    earliest = datetime.min.replace(tzinfo=UTC)
    return format_second(moment - MAX_OFFSET if moment - earliest > MAX_OFFSET else earliest)


def text_after(moment: datetime) -> str:
    """Return a text that sorts after every time up to `moment`, with any UTC offset."""
    latest = datetime.max.replace(tzinfo=UTC)
    distance = MAX_OFFSET + timedelta(seconds=1)
    return format_second(moment + distance if latest - moment > distance else latest)


def parse_time(text: str) -> datetime | None:
    """Return the time of an RFC 3339 text, such as Go's RFC3339Nano writes, in UTC.

    Digits after the microseconds are dropped. Returns None for Go's zero time. Raises ValueError
    for other text, and for a time that is before the year 1 or after 9999 in UTC.
    """
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not UTC:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError as error:
            raise ValueError(f"time out of range: {text!r}") from error
    return None if moment == NEVER else moment


def epoch(moment: datetime, plus: timedelta = timedelta()) -> int:
    """Return `moment` plus `plus` as whole seconds since 1970, the form of the TTL attribute."""
    return int((moment + plus).timestamp())
