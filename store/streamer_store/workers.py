"""The store of workers' rows over any engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from streamer_store import codec
from streamer_store.clock import Clock
from streamer_store.codec import raw_text
from streamer_store.conditions import Absent, Present, equals
from streamer_store.decoding import ItemDecoder, Report
from streamer_store.engine import ConditionFailed, Delete, Engine, Put, Scan, Update, paginate
from streamer_store.errors import AlreadyExists, NotFound, Undecodable
from streamer_store.fleet_shares import NO_SHARES, Shares, write_shares
from streamer_store.protocols.workers import FleetRows
from streamer_store.reserved_ids import CONTROL_PREFIX, require_own_id
from streamer_store.schema import OTHER_TTL, WORKERS
from streamer_store.times import epoch, format_time
from streamer_store.validation import require_text
from streamer_store.values import AttributeValue, Item
from streamer_store.worker_row import WorkerRow

# Attributes that only `register` writes. Together they differ between any two workers.
_IDENTITY: Final = ("StartedAt", "Host", "PID")


class WorkerTable:
    """Implements WorkerRegistry.

    `report`: called with the error of each row, or part of a row, that cannot be decoded.
    """

    def __init__(self, *, engine: Engine, clock: Clock, report: Report) -> None:
        self._engine = engine
        self._clock = clock
        self._decoder: ItemDecoder[WorkerRow] = ItemDecoder(
            codec.worker, table=engine.table_name(WORKERS), report=report
        )

    async def register(self, row: WorkerRow) -> None:
        require_own_id("worker_id", row.worker_id)
        now = self._clock.now()
        item = codec.worker_item(replace(row, seen_at=now, ttl=epoch(now, OTHER_TTL)))
        try:
            await self._engine.put(Put(table=WORKERS, item=item, conditions=(Absent("WorkerID"),)))
        except ConditionFailed as failed:
            # The client repeats a call whose answer was lost. The row is then the worker's own.
            if any((failed.old or {}).get(name) != item.get(name) for name in _IDENTITY):
                where = self._decoder.location("register", row.worker_id)
                raise AlreadyExists("another worker has this id", **where) from None

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
        now = self._clock.now()
        versions = sorted(handled)
        sets: dict[str, AttributeValue] = {
            "SeenAt": {"S": format_time(now)},
            "InFlight": {"N": str(in_flight)},
            "Draining": {"BOOL": draining},
            "Sweeps": {"N": str(sweeps)},
            "TTL": {"N": str(epoch(now, OTHER_TTL))},
        }
        if shares:
            sets["FleetShares"] = write_shares(shares, "shares")
        update = Update(
            table=WORKERS,
            key=worker_id,
            adds={"Beat": {"N": "1"}},
            sets=sets,
            deletes={"Cancel": {"SS": versions}} if versions else {},
            removes=("Drain",) if drain_handled else (),
            # LEASE-1: an update without it would create the row of a removed worker again.
            conditions=(Present("StartedAt"),),
        )
        try:
            item = await self._engine.update(update)
        except ConditionFailed:
            where = self._decoder.location("beat", worker_id)
            raise NotFound("the worker has no row", **where) from None
        return self._decoder.decode_one("beat", item)

    async def list(self) -> list[WorkerRow]:
        return (await self.read_all()).workers

    async def read_all(self) -> FleetRows:
        rows: list[WorkerRow] = []
        controls: dict[str, Item] = {}
        async for page in paginate(self._engine.scan, Scan(table=WORKERS)):
            found = {raw_text(item, "WorkerID"): item for item in page.items}
            page_controls = {key: found[key] for key in found if key.startswith(CONTROL_PREFIX)}
            rows += self._decoder.decode_all(
                item for key, item in found.items() if key not in page_controls
            )
            controls |= page_controls
        for row in rows:
            if row.broken is not None:
                self._decoder.report(Undecodable(row.broken, key=row.worker_id))
        return FleetRows(workers=rows, controls=controls)

    async def read_control(self, control_id: str) -> Item | None:
        return await self._engine.get(WORKERS, control_id)

    async def remove(self, worker_id: str, *, beat: int | None = None) -> bool:
        require_text("worker_id", worker_id)
        # RESCUE-1: a heartbeat that comes before the removal keeps the row.
        conditions = () if beat is None else (equals("Beat", {"N": str(beat)}),)
        try:
            await self._engine.delete(Delete(table=WORKERS, key=worker_id, conditions=conditions))
        except ConditionFailed as failed:
            return failed.old is None
        return True

    async def request_cancel(self, worker_id: str, *versions: str) -> bool:
        for version in versions:
            require_text("version", version)
        added = list(dict.fromkeys(versions))
        return await self._write_to_mailbox(worker_id, adds={"Cancel": {"SS": added}})

    async def request_drain(self, worker_id: str) -> bool:
        return await self._write_to_mailbox(worker_id, sets={"Drain": {"BOOL": True}})

    async def _write_to_mailbox(
        self,
        worker_id: str,
        *,
        adds: dict[str, AttributeValue] | None = None,
        sets: dict[str, AttributeValue] | None = None,
    ) -> bool:
        """Change the row if it exists (LEASE-1), and return whether it does."""
        require_text("worker_id", worker_id)
        update = Update(
            table=WORKERS,
            key=worker_id,
            adds=adds or {},
            sets=sets or {},
            conditions=(Present("StartedAt"),),
        )
        try:
            await self._engine.update(update)
        except ConditionFailed:
            return False
        return True
