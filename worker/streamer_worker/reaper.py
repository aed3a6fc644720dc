"""Removing the connections that went silent."""

from __future__ import annotations

from datetime import timedelta

from streamer_store import Clock, ConnectionStore, StaleSweep
from streamer_worker.events import ConnectionsReaped, Events
from streamer_worker.settings import ReaperSettings


class Reaper:
    """Every deletion is conditional, so that several workers may reap at once."""

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        settings: ReaperSettings,
        events: Events,
        clock: Clock,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._events = events
        self._clock = clock

    async def step(self) -> StaleSweep:
        """Sweep once and return the counts."""
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

    def pause(self, _sweep: StaleSweep) -> float:
        return self._settings.interval
