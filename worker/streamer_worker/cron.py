"""Cron expressions in a time zone (pure)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

_MAX_CHARS: Final = 200
_FIELDS: Final = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT",
}
_WITHOUT_SECOND: Final = list(_FIELDS)[1:]
_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_NAMES: Final = {
    "month": ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    "day-of-week": ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"],
}
_ABBREVIATION: Final = re.compile(r"[A-Z]{2,5}|(?:UTC|GMT)?[+-]\d{1,2}(?::?\d\d)?", re.ASCII)
"""Such as CEST and +01:00. The nearest name of a zone would be another time."""
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)


class ExpressionInvalid(ValueError):
    """A cron expression or a time zone cannot be read. The text says why and what is allowed."""


class CronExpression:
    """A cron expression, read in a time zone.

    Daylight saving is as in Debian's cron (`cronsim`). There are two kinds of expressions:

    1. The minute or the hour begins with `*`, or there are seconds: elapsed time counts. The
       times of the hour that is twice are twice, and those of the missing hour are not.
    2. Others name fixed times. A time that is twice is the first one only. A time in the missing
       hour is the moment at which the clock is set.

    Raises ExpressionInvalid.
    """

    def __init__(self, text: str, timezone: str) -> None:
        self.text = text
        self.timezone = timezone
        self._zone = parse_timezone(timezone)
        _check(text)
        if next(self.after(_EARLIEST), None) is None:
            raise ExpressionInvalid(f"cron {text!r} never comes: there is no such day")

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the times after `moment`, in UTC, in order, each once."""
        last = moment
        for local in CronSim(self.text, moment.astimezone(self._zone)):
            time = local.astimezone(UTC)
            # In the hour that is twice cronsim begins with the first of the two. Two times of the
            # missing hour are the same moment.
            if time > last:
                last = time
                yield time


@cache
def parse_timezone(name: str) -> tzinfo:
    """Return the time zone of this IANA name. Raises ExpressionInvalid with the nearest name."""
    if name == "UTC":
        return UTC
    try:
        if name in available_timezones():
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError):
        pass
    if _ABBREVIATION.fullmatch(name):
        raise ExpressionInvalid(
            f"timezone {name!r} is unknown; name a place, such as Europe/Berlin, or UTC"
        )
    names = sorted(available_timezones())
    by_lower_case = {known.lower(): known for known in names}
    by_place = {known.lower().rpartition("/")[2]: known for known in reversed(names)}
    wanted = name.lower().replace(" ", "_")
    nearest = by_lower_case.get(wanted) or by_place.get(wanted)
    if nearest is None:
        (lower,) = difflib.get_close_matches(wanted, by_lower_case, n=1, cutoff=0.0)
        nearest = by_lower_case[lower]
    raise ExpressionInvalid(f"timezone {name!r:.100} is unknown; the nearest is {nearest}")


def _check(text: str) -> None:
    """Raise ExpressionInvalid if the text is no cron expression."""
    parts = text.split()
    if text.strip().lower() in _ALIASES:
        raise ExpressionInvalid(f"cron {text!r}: write {_ALIASES[text.strip().lower()]!r}")
    if len(text) > _MAX_CHARS:
        raise ExpressionInvalid(f"cron is longer than {_MAX_CHARS} characters")
    if len(parts) not in {len(_WITHOUT_SECOND), len(_FIELDS)}:
        order = ", ".join(_WITHOUT_SECOND)
        raise ExpressionInvalid(
            f"cron {text!r} has {len(parts)} fields instead of 5: {order};"
            " a sixth in front is the second"
        )
    try:
        CronSim(text, _EARLIEST)
    except (CronSimError, AssertionError, ValueError) as error:
        name = str(error).removeprefix("Bad ")
        names = list(_FIELDS) if len(parts) == len(_FIELDS) else _WITHOUT_SECOND
        if name not in names:
            raise ExpressionInvalid(f"cron {text!r} cannot be read") from error
        place = names.index(name)
        value = parts[place]
        if _is_valid(["*"] * place + [value] + ["*"] * (len(parts) - place - 1)):
            raise ExpressionInvalid(
                f"cron {text!r}: the {name} {value!r} is in none of the months: it never comes"
            ) from error
        nearest = difflib.get_close_matches(value[:3].upper(), _NAMES.get(name, ()), n=1)
        hint = f"; the nearest is {nearest[0]}" if nearest else ""
        raise ExpressionInvalid(
            f"cron {text!r}: the {name} {value!r} is not {_FIELDS[name]}, a list, a range or a step"
            f"{hint}"
        ) from error


def _is_valid(parts: list[str]) -> bool:
    try:
        CronSim(" ".join(parts), _EARLIEST)
    except (CronSimError, AssertionError, ValueError):
        return False
    return True
