"""RFC 3339 times as the tables hold them (pure)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_SHAPE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_GO_ZERO = datetime(1, 1, 1, tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Return `moment` in UTC with exactly six fractional digits and `Z`, so that text sorts."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def format_second(moment: datetime) -> str:
    """Return what sorts before every time of the moment's second, whatever its digits."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00")


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
    return None if moment == _GO_ZERO else moment


def epoch(moment: datetime, plus: timedelta = timedelta()) -> int:
    """Return whole seconds since 1970, the form of the TTL attribute."""
    return int((moment + plus).timestamp())
