"""Deletes connections that have not pinged for a long time."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from streamer_store import ConnectionStore, StaleSweep
from streamer_worker.events import ClockJumped, ConnectionsReaped
from streamer_worker.fleet.membership import Membership
from streamer_worker.runtime import Runtime
from streamer_worker.settings import ReaperSettings

# How soon a worker that does not lead checks again whether it does, in seconds.
_LEADER_CHECK: Final = 10.0
# By how much the wall clock must depart from the steady clock to count as a jump, in seconds.
_JUMP: Final = 60.0


class Reaper:
    """Deletes stale connections. Only the leader does.

    LEADER-1: each deletion is conditional on the LastPing that was read, so two leaders at once are
    safe.
    """

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        settings: ReaperSettings,
        membership: Membership,
        runtime: Runtime,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._membership = membership
        self._events = runtime.events
        self._clock = runtime.clock
        self._last_times: tuple[datetime, float] | None = None
        self._trusted_from = -math.inf

    async def step(self) -> StaleSweep | None:
        """Delete stale connections, emit ConnectionsReaped, and return the counts.

        Returns None if this worker does not lead, or its wall clock has jumped. Raises what the
        store raises.
        """
        if not self._membership.leads or self._clock_jumped():
            return None
        began = self._clock.steady()
        before = self._clock.now() - timedelta(seconds=self._settings.stale_after)
        sweep = await self._connections.sweep_stale(before, dry_run=self._settings.dry_run)
        self._events.emit(
            ConnectionsReaped(
                found=sweep.found,
                deleted=sweep.deleted,
                kept=sweep.kept,
                undecodable=sweep.undecodable,
                dry_run=self._settings.dry_run,
                seconds=self._clock.steady() - began,
            )
        )
        return sweep

    def pause(self, sweep: StaleSweep | None) -> float:
        """Return the seconds until the next step."""
        return self._settings.interval if sweep else min(self._settings.interval, _LEADER_CHECK)

    def _clock_jumped(self) -> bool:
        """Return whether the wall clock has jumped within the last `stale_after` seconds.

        After a jump it is unknown which time was right, and live connections may look stale
        until they have pinged again.
        """
        now, steady = self._clock.now(), self._clock.steady()
        previous, self._last_times = self._last_times, (now, steady)
        if previous is not None:
            jump = (now - previous[0]).total_seconds() - (steady - previous[1])
            if abs(jump) >= _JUMP:
                self._trusted_from = steady + self._settings.stale_after
                self._events.emit(ClockJumped(seconds=jump))
        return steady < self._trusted_from
