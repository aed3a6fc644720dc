"""Removes the rows of schedules that no worker has any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from streamer_store import ScheduleRow, ScheduleStore
from streamer_store.schedule_row import decode_schedules, listed_names
from streamer_worker.events import ScheduleEnded
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.server_clock import ClockSkew
from streamer_worker.runtime import Runtime
from streamer_worker.schedules.ticker import MAX_SKEW

ENDS_AFTER: Final = timedelta(hours=26)
"""A day is the longest `catch_up`, and rows say within an hour when a worker last listed them."""
"""For how long no live worker has listed a schedule that has ended."""
_INTERVAL: Final = 60.0


class EndedSchedules:
    """Removes the row of a schedule that no live worker has listed for a day.

    Each row has one worker that does, by rank. The removal requires that the row has not been
    written since it was seen, so a worker that begins to list the schedule keeps it.
    """

    def __init__(
        self,
        *,
        schedules: ScheduleStore,
        membership: Membership,
        clock_skew: ClockSkew,
        runtime: Runtime,
    ) -> None:
        self._schedules = schedules
        self._membership = membership
        self._clock_skew = clock_skew
        self._clock = runtime.clock
        self._events = runtime.events

    async def step(self) -> int:
        """Remove the rows of schedules that have ended, and return how many."""
        if abs(self._clock_skew()) > MAX_SKEW or not self._membership.lease_is_safe:
            return 0
        rows, _ = decode_schedules(self._membership.view.controls)
        removed = 0
        for row in filter(self._has_ended, rows):
            if await self._schedules.remove(row):
                removed += 1
                self._events.emit(ScheduleEnded(schedule=row.name, action=row.action))
        return removed

    def pause(self, _: int) -> float:
        """Return the seconds until the next step."""
        return _INTERVAL

    def _has_ended(self, row: ScheduleRow) -> bool:
        """Return whether the schedule has ended, and it is for this worker to remove its row."""
        view = self._membership.view
        if self._clock.now() - row.listed_at < ENDS_AFTER:
            return False
        if any(row.name in listed_names(worker.schedules) for worker in view.live):
            return False
        return view.rank_among(view.live, row.key) == 0
