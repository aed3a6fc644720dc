"""RFC 3339 times as the tables hold them (pure)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_SHAPE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Go's zero time, which stands for "absent".
NEVER = datetime(1, 1, 1, tzinfo=UTC)
# Text with an offset sorts up to a day away from where the text of the same moment in UTC sorts.
OFFSETS = timedelta(days=1)


def format_time(moment: datetime) -> str:
    """Return `moment` in UTC with exactly six fractional digits and `Z`, so that text sorts."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def format_second(moment: datetime) -> str:
    """Return what sorts before every time of the moment's second, whatever its digits."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def text_before(moment: datetime) -> str:
    """Return what sorts before the text of every time from `moment` on, whatever its offset."""
    earliest = datetime.min.replace(tzinfo=UTC)
    return format_second(moment - OFFSETS if moment - earliest > OFFSETS else earliest)


def text_after(moment: datetime) -> str:
    """Return what sorts after the text of every time up to `moment`, whatever its offset."""
    latest = datetime.max.replace(tzinfo=UTC)
    distance = OFFSETS + timedelta(seconds=1)
    return format_second(moment + distance if latest - moment > distance else latest)


def parse_time(text: str) -> datetime | None:
    """Read what Go's RFC3339Nano writes; digits past microseconds are dropped.

    Go's zero time means "absent" and gives None. Raises ValueError for anything else.
    """
    if not _SHAPE.fullmatch(text):
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"time out of range: {text!r}") from error
    return None if moment == NEVER else moment


def epoch(moment: datetime, plus: timedelta = timedelta()) -> int:
    """Return whole seconds since 1970, the form of the TTL attribute."""
    return int((moment + plus).timestamp())
