"""When a handler's requests are made by the workers themselves: `Schedule`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from streamer_store import Priority

Missed = Literal["last", "all"]
DEFAULT_CATCH_UP: Final = timedelta(hours=1)
UTC_NAME: Final = "UTC"


@dataclass(frozen=True)
class Schedule:
    """Makes requests of a handler's action at fixed times. Pass it to `@handler(schedules=[...])`.

    * `name`: the name of the schedule, of which the fleet has one. It must not contain `#`.
    * `cron`: a cron expression: minute, hour, day of month, month and day of week. With six
      fields the first is the second.
    * `timezone`: the IANA name of the time zone in which the expression is read.
    * `payload`: the payload of each request.
    * `catch_up`: how late a tick may still be made after no worker was there.
    * `missed`: which of several such ticks are made: the last one only, or all.
    * `priority`: of the requests; None: normal.
    * `max_retries`: of the requests; None: as any request.

    Everything is checked when a worker starts, with all other faults.

    >>> Schedule("weekly_report", cron="0 6 * * MON", timezone="Europe/Berlin").missed
    'last'
    """

    name: str
    cron: str = field(kw_only=True)
    timezone: str = field(default=UTC_NAME, kw_only=True)
    payload: Mapping[str, Any] | None = field(default=None, kw_only=True, hash=False)
    catch_up: timedelta = field(default=DEFAULT_CATCH_UP, kw_only=True)
    missed: Missed = field(default="last", kw_only=True)
    priority: Priority | None = field(default=None, kw_only=True)
    max_retries: int | None = field(default=None, kw_only=True)


def schedules_of(
    action: str,
    *,
    cron: str | None,
    timezone: str | None,
    payload: Mapping[str, Any] | None,
    schedules: Iterable[Schedule],
) -> tuple[Schedule, ...]:
    """Return the schedules that the options of a handler define.

    `cron`, `timezone` and `payload` define the one with the name of the action. Raises TypeError
    for a zone or a payload without `cron`, for what is no Schedule, and for a name that is no text.
    """
    given = tuple(schedules)
    for schedule in given:
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedules of action {action!r} must be Schedules, not {schedule!r}")
        if not isinstance(schedule.name, str):
            raise TypeError(
                f"a name of schedules of {action!r} must be text, not {schedule.name!r}"
            )
    if cron is None:
        if timezone is not None or payload is not None:
            option = "payload" if timezone is None else "timezone"
            raise TypeError(f"{option} of action {action!r} needs cron, the times of the schedule")
        return given
    own = Schedule(
        action, cron=cron, timezone=UTC_NAME if timezone is None else timezone, payload=payload
    )
    return (own, *given)
