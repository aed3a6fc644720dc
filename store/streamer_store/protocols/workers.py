"""The contract of the table of workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from streamer_store.fleet_shares import NO_SHARES, Shares
from streamer_store.values import Item
from streamer_store.worker_row import WorkerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRows:
    """All rows of the table of workers, as one read showed them."""

    workers: list[WorkerRow]
    """The rows of workers."""
    controls: Mapping[str, Item] = field(default_factory=dict)
    """The items of the rows that control the fleet, by id (reserved_ids.CONTROL_PREFIX)."""


class WorkerRegistry(Protocol):
    """Stores one row for each live worker: its lease, its mailbox, and what it can do.

    A worker renews its lease by heartbeats (`beat`). Cancellations and drain orders wait in the
    row (the mailbox) until the next heartbeat returns them. Delivery is at least once: a
    heartbeat whose answer was lost returns the same mailbox again. All reads are consistent.
    Only `register` creates a row.
    """

    async def register(self, row: WorkerRow) -> None:
        """Write the row of a new worker, with SeenAt now and TTL 24 hours from now.

        Succeeds if the same worker has written the row before: the same StartedAt, host and
        process id. Raises AlreadyExists if another worker has this id.
        """
        ...

    async def beat(
        self,
        worker_id: str,
        *,
        in_flight: int,
        draining: bool,
        sweeps: int,
        shares: Shares = NO_SHARES,
        handled: Iterable[str] = (),
        drain_handled: bool = False,
    ) -> WorkerRow:
        """Write a heartbeat: add 1 to Beat, set SeenAt, and set TTL to 24 hours from now.

        - `in_flight`, `draining`, `sweeps`: the new values of these fields of WorkerRow.
        - `shares`: the new value of that field. Empty: it stays as it is.
        - `handled`: the Versions of cancelled requests to delete from the mailbox.
        - `drain_handled`: whether to delete the drain order from the mailbox.

        Returns the row after the write. Raises NotFound if there is no row: the
        worker was declared dead and its row removed. Raises Undecodable.
        """
        ...

    async def list(self) -> list[WorkerRow]:
        """Return the rows of all workers. What cannot be decoded is reported.

        A row is left out only if it has no StartedAt or cannot be decoded at all.
        """
        ...

    async def read_all(self) -> FleetRows:
        """Return the rows of `list`, and those that control the fleet, in one read."""
        ...

    async def read_control(self, control_id: str) -> Item | None:
        """Return the item of one row that controls the fleet, or None if there is none."""
        ...

    async def remove(self, worker_id: str, *, beat: int | None = None) -> bool:
        """Delete the row.

        `beat`: delete only if Beat still has this value. None: delete in any case.

        Returns True if the row is deleted or there was none, False if Beat has changed.
        """
        ...

    async def request_cancel(self, worker_id: str, *versions: str) -> bool:
        """Put cancelled requests into the worker's mailbox, so that it stops their handlers.

        `versions`: the Versions that the cancellations set. Returns False if there is no row.
        """
        ...

    async def request_drain(self, worker_id: str) -> bool:
        """Put a drain order into the worker's mailbox: finish the requests, then exit.

        Returns False if there is no row.
        """
        ...
