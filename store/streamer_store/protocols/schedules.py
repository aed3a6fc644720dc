"""The contract of the rows of schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from streamer_store.models import AsyncRequest
from streamer_store.schedule_row import ScheduleRow


class ScheduleStore(Protocol):
    """Stores one row for each schedule, in the table of workers, and makes its requests.

    `WorkerRegistry.read_all` returns the rows, too (`schedule_row.decode_schedules`). A row
    changes only under the LastTick and the definition that the writer has seen, so that a write
    that comes late or twice changes nothing.
    """

    async def get(self, name: str) -> ScheduleRow | None:
        """Return the row of a schedule, or None if there is none. Raises Undecodable."""
        ...

    async def create(self, row: ScheduleRow) -> ScheduleRow:
        """Write the row of a schedule that has none. Return it, or the row that is there.

        Raises Undecodable if that row cannot be read.
        """
        ...

    async def change(self, seen: ScheduleRow, row: ScheduleRow) -> bool:
        """Replace a row, but for its order to run. Return False if it is not as `seen` any more.

        A change that was written before, and whose answer was lost, counts as made.
        """
        ...

    async def make_tick(self, seen: ScheduleRow, tick: datetime, request: AsyncRequest) -> bool:
        """Store the request of a tick and move LastTick to it, both or none (CRON-1).

        - `tick`: its time. The id of the request follows from it (`schedule_row.tick_id`).
        - `request`: the request without an id.

        If a request has this id already, only LastTick is moved. Returns False if the row is not
        as `seen` any more: nothing was written. Raises ItemTooLarge; ValidationError.
        """
        ...

    async def request_run(self, name: str, request_id: str) -> str | None:
        """Order a request now, with this id, besides the ticks. Return the id of the order.

        A worker that has the schedule carries it out. If an order waits already, it stays, and its
        id is returned. Returns None if there is no row.
        """
        ...

    async def make_run(self, seen: ScheduleRow, request: AsyncRequest) -> bool:
        """Store the request that `seen.run` orders, and delete the order, both or none.

        Returns False if the order has changed or is gone: nothing was written.
        """
        ...

    async def remove(self, seen: ScheduleRow) -> bool:
        """Delete the row, unless it was written since it was seen. Return whether it is gone."""
        ...
