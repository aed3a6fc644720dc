"""Events about schedules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDefined:
    """A worker has written the definition of a schedule, a new one or a changed one. Emitted by
    `schedules.ticker`. The ticks begin now.

    schedule: name of the schedule.
    action: action of its requests.
    expression: its cron expression.
    timezone: the time zone of the expression.
    """

    schedule: str
    action: str
    expression: str
    timezone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTicked:
    """A worker has made a request of a schedule. Emitted by `schedules.ticker`.

    schedule: name of the schedule.
    action: action of the request.
    request_id: id of the request.
    late: seconds since the tick was due. None: it is no tick, an operator asked for a request.
    """

    schedule: str
    action: str
    request_id: str
    late: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTicksMissed:
    """Ticks of a schedule were due and are not made. Emitted by `schedules.ticker`.

    schedule: name of the schedule.
    count: how many, 1,000 at most in one event.
    paused: the schedule is paused. Otherwise no worker was there in time.
    """

    schedule: str
    count: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSuspended:
    """This worker makes no ticks of a schedule for now, because times cannot be trusted. Emitted
    once by `schedules.ticker`.

    schedule: name of the schedule.
    reason: why, as text.
    """

    schedule: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEnded:
    """No live worker has had a schedule for a day, and its row was removed. Emitted by
    `schedules.ended`.

    schedule: name of the schedule.
    action: action of its requests.
    """

    schedule: str
    action: str


ScheduleEvent = (
    ScheduleDefined | ScheduleTicked | ScheduleTicksMissed | ScheduleSuspended | ScheduleEnded
)
