"""Removing the connections that went silent."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from streamer_store import Clock, ConnectionStore, StaleSweep
from streamer_worker.events import ClockJumped, ConnectionsReaped, Events
from streamer_worker.settings import ReaperSettings

_ASK_AGAIN: Final = 10.0
_JUMP: Final = 60.0


class Reaper:
    """The leader sweeps. Every deletion is conditional, so that two leaders do no harm."""

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        settings: ReaperSettings,
        leads: Callable[[], bool],
        events: Events,
        clock: Clock,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._leads = leads
        self._events = events
        self._clock = clock
        self._clocks: tuple[datetime, float] | None = None
        self._trusted_from = -math.inf

    async def step(self) -> StaleSweep | None:
        """Sweep once and return the counts; None when it is not our turn."""
        if not self._leads() or self._clock_jumped():
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
        return self._settings.interval if sweep else min(self._settings.interval, _ASK_AGAIN)

    def _clock_jumped(self) -> bool:
        """Whether the wall clock went its own way, now or within the last `stale_after`: nobody
        can say which time was right, and the connections that live have not pinged since.
        """
        now, steady = self._clock.now(), self._clock.steady()
        before, self._clocks = self._clocks, (now, steady)
        if before is not None:
            jump = (now - before[0]).total_seconds() - (steady - before[1])
            if abs(jump) >= _JUMP:
                self._trusted_from = steady + self._settings.stale_after
                self._events.emit(ClockJumped(seconds=jump))
        return steady < self._trusted_from
