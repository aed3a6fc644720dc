"""Which ticks of a schedule are due, and which of them are made (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Final

from streamer_worker.schedules.definition import Definition

LATE: Final = timedelta(minutes=1)
"""A tick that is due for less is late, and not missed: all such ticks are made."""
_MAX_READ: Final = 1000
"""The most ticks that one plan goes through. The next plan goes on after them."""
_MAX_MADE: Final = 100
"""The most requests that one plan makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is due of a schedule.

    - `first`: the first tick that is due. None: nothing is.
    - `made`: the ticks to make, in order.
    - `missed`: how many ticks are not made, 1,000 at most. None of them is after `until`.
    - `paused`: whether they are missed because the schedule is paused.
    - `until`: the LastTick after all of it.
    """

    first: datetime | None = None
    made: Sequence[datetime] = ()
    missed: int = 0
    paused: bool = False
    until: datetime


def plan_ticks(definition: Definition, *, last_tick: datetime, now: datetime, paused: bool) -> Plan:
    """Return what is due at `now` after `last_tick`.

    There are three kinds of due ticks:

    1. Late ones, due for less than a minute: all are made.
    2. Older ones within `catch_up`: if `missed` is `all` they are made. Otherwise the last one is
       made if there is no later tick.
    3. Older ones: they are missed.

    All ticks of a paused schedule are missed.
    """
    earliest = now - definition.catch_up
    ticks = takewhile(lambda tick: tick <= now, definition.expression.after(last_tick))
    due = list(islice(ticks, _MAX_READ))
    if not due:
        return Plan(until=last_tick)
    kept = [tick for tick in due if tick > earliest or now - tick < LATE]
    if paused:
        kept = []
    elif definition.missed == "last" and kept:
        is_all = len(due) < _MAX_READ
        kept = [tick for tick in kept if now - tick < LATE] or (kept[-1:] if is_all else [])
    made = kept[:_MAX_MADE]
    until = due[-1] if len(made) == len(kept) else made[-1]
    passed = sum(tick <= until for tick in due)
    return Plan(first=due[0], made=made, missed=passed - len(made), paused=paused, until=until)
