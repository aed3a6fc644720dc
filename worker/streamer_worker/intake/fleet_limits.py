"""How many requests of an action this worker may run, if the limit is of the whole fleet."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from streamer_store import Clock
from streamer_store.fleet_shares import FleetShare, Shares
from streamer_worker.fleet.shares import confirmed, target
from streamer_worker.fleet.view import FleetView, heartbeats_per_read
from streamer_worker.handlers.limits import Scope
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.slots import Slots

_READS_PER_TURN: Final = 15
"""At the change of a turn less than the limit runs for about three reads of the rows."""


class _Limit:
    """The fleet's limit of an action, and this worker's part of it.

    `limit`: how many the fleet runs. `confirmed`: how many this worker may run. `announced`: how
    many its next heartbeat announces, never less than `confirmed` (FLEET-1). `is_short`: a request
    waits for it. `most`: the most that ran since the last view.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.confirmed = 0
        self.announced = 0
        self.is_short = False
        self.most = 0


class FleetLimits:
    """This worker's parts of the limits of the fleet, which follow from the rows of all workers.

    `shares` may be called on any thread, everything else on the event loop's. `heartbeat`: seconds
    between two of this worker.
    """

    def __init__(self, *, registry: Registry, slots: Slots, heartbeat: float, clock: Clock) -> None:
        self._slots = slots
        self._heartbeat = heartbeat
        self._clock = clock
        self._limits = {
            action: _Limit(handler.limits.max_concurrency)
            for action, handler in registry.items()
            if handler.limits.max_concurrency_scope is Scope.FLEET
            and handler.limits.max_concurrency is not None
        }

    def has(self, action: str) -> bool:
        """Return whether the fleet's number of the action is limited."""
        return action in self._limits

    def left(self, action: str) -> int:
        """Return how many more requests of the action may run here. It may be negative."""
        limit = self._limits[action]
        used = self._slots.of_action(action)
        limit.most = max(limit.most, used)
        if used >= limit.confirmed:
            limit.is_short = True
        return limit.confirmed - used

    def shares(self, *, draining: bool = False) -> Shares:
        """Return what the next heartbeat announces, by action. `draining`: nothing more starts."""
        shares = {action: self._share(action) for action in self._limits}
        if not draining:
            return shares
        return {action: replace(share, limit=share.running) for action, share in shares.items()}

    def on_fleet_view(self, view: FleetView) -> None:
        """Confirm what was announced, choose what to announce next, and wake the poller."""
        # By the wall clock. Workers whose clocks differ announce too little for that time.
        turn_seconds = _READS_PER_TURN * heartbeats_per_read(view) * self._heartbeat
        turn = int(self._clock.now().timestamp() // turn_seconds)
        for action, limit in self._limits.items():
            allowed = confirmed(limit.limit, action, view)
            before, allowed = limit.confirmed, min(allowed, limit.announced)
            limit.announced = target(limit.limit, action, view, self._share(action), turn=turn)
            limit.confirmed = min(allowed, limit.announced)
            limit.is_short = False
            limit.most = self._slots.of_action(action)
            if limit.confirmed > before:
                self._slots.freed.notify()

    def _share(self, action: str) -> FleetShare:
        limit = self._limits[action]
        running = self._slots.of_action(action)
        wanted = max(running, limit.most)
        if limit.is_short:
            wanted = min(limit.limit, self._slots.total)
        return FleetShare(running, max(running, limit.announced), wanted)
