"""What a worker knows of the fleet and of its own lease, as its heartbeat reported it."""

from __future__ import annotations

from streamer_store import Clock, WorkerRow
from streamer_worker.changes import Changes
from streamer_worker.fleet.view import FleetView


class Membership:
    """The last view of the fleet, and the age of this worker's lease. Event loop's thread only.

    `row`: the worker's own row, the only live one until the fleet is read. `lease`: in seconds.
    """

    def __init__(self, row: WorkerRow, *, lease: float, clock: Clock) -> None:
        self.view = FleetView(worker_id=row.worker_id, live=(row,))
        self._lease = lease
        self._clock = clock
        self._last_heartbeat = clock.steady()
        self._view_changes = Changes()

    @property
    def leads(self) -> bool:
        """Whether this worker is the leader."""
        return self.view.leads

    @property
    def lease_is_safe(self) -> bool:
        """Whether the last heartbeat is younger than half of the lease.

        If not, other workers may soon declare this one dead, so it must neither claim nor rescue
        (LEASE-5).
        """
        return self._clock.steady() - self._last_heartbeat < self._lease / 2

    def on_heartbeat(self, began: float) -> None:
        """Note a heartbeat that succeeded, and began at this time of the steady clock."""
        self._last_heartbeat = began

    def on_fleet_view(self, view: FleetView) -> None:
        """Replace the view, and wake the tasks that wait for it."""
        self.view = view
        self._view_changes.notify()

    async def wait_for_view(self) -> FleetView:
        """Wait for the next view of the fleet, and return it."""
        await self._view_changes.wait()
        return self.view
