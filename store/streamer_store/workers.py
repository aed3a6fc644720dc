"""The workers' rows: presence and mailbox, over any engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from streamer_store import codec
from streamer_store.clock import Clock
from streamer_store.engine import (
    Absent,
    ConditionFailed,
    Delete,
    Engine,
    Present,
    Put,
    Scan,
    Update,
    equals,
    paginate,
)
from streamer_store.errors import AlreadyExists, NotFound, Undecodable, located
from streamer_store.models import WorkerRow, require_text
from streamer_store.schema import OTHER_TTL, WORKERS
from streamer_store.times import epoch, format_time
from streamer_store.values import AttributeValue

# Attributes that no beat and no mail changes, and that two workers never share.
_IDENTITY: Final = ("StartedAt", "Host", "PID")


class WorkerTable:
    """Implements WorkerRegistry. `report` hears of rows that cannot be decoded."""

    def __init__(
        self, *, engine: Engine, clock: Clock, report: Callable[[Undecodable], None]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._report = report
        self._table = engine.table_name(WORKERS)

    async def register(self, row: WorkerRow) -> None:
        now = self._clock.now()
        item = codec.worker_item(replace(row, seen_at=now, ttl=epoch(now, OTHER_TTL)))
        try:
            await self._engine.put(Put(table=WORKERS, item=item, conditions=(Absent("WorkerID"),)))
        except ConditionFailed as failed:
            # A call whose answer was lost is repeated, and may have taken effect: our own row.
            if any((failed.old or {}).get(name) != item.get(name) for name in _IDENTITY):
                where = self._at("register", row.worker_id)
                raise AlreadyExists("a worker has this id", **where) from None

    async def beat(
        self,
        worker_id: str,
        *,
        in_flight: int,
        draining: bool,
        sweeps: int,
        handled: Iterable[str] = (),
        drain_handled: bool = False,
    ) -> WorkerRow:
        now = self._clock.now()
        versions = sorted(handled)
        update = Update(
            table=WORKERS,
            key=worker_id,
            adds={"Beat": {"N": "1"}},
            sets={
                "SeenAt": {"S": format_time(now)},
                "InFlight": {"N": str(in_flight)},
                "Draining": {"BOOL": draining},
                "Sweeps": {"N": str(sweeps)},
                "TTL": {"N": str(epoch(now, OTHER_TTL))},
            },
            deletes={"Cancel": {"SS": versions}} if versions else {},
            removes=("Drain",) if drain_handled else (),
            conditions=(Present("StartedAt"),),
        )
        try:
            item = await self._engine.update(update)
        except ConditionFailed:
            raise NotFound("the worker's row is gone", **self._at("beat", worker_id)) from None
        with located("beat", self._table):
            return codec.worker(item)

    async def list(self) -> list[WorkerRow]:
        found = []
        async for page in paginate(self._engine.scan, Scan(table=WORKERS)):
            for item in page.items:
                try:
                    row = codec.worker(item)
                except Undecodable as error:
                    self._tell(error)
                    continue
                if row.broken is not None:
                    self._tell(Undecodable(row.broken, key=row.worker_id))
                found.append(row)
        return found

    def _tell(self, error: Undecodable) -> None:
        error.table = self._table
        self._report(error)

    async def remove(self, worker_id: str, *, beat: int | None = None) -> bool:
        require_text("worker_id", worker_id)
        conditions = () if beat is None else (equals("Beat", {"N": str(beat)}),)
        try:
            await self._engine.delete(Delete(table=WORKERS, key=worker_id, conditions=conditions))
        except ConditionFailed as failed:
            return failed.old is None
        return True

    async def request_cancel(self, worker_id: str, version: str) -> bool:
        require_text("version", version)
        return await self._post(worker_id, adds={"Cancel": {"SS": [version]}})

    async def request_drain(self, worker_id: str) -> bool:
        return await self._post(worker_id, sets={"Drain": {"BOOL": True}})

    async def _post(
        self,
        worker_id: str,
        *,
        adds: dict[str, AttributeValue] | None = None,
        sets: dict[str, AttributeValue] | None = None,
    ) -> bool:
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

    def _at(self, operation: str, key: str) -> dict[str, Any]:
        return {"operation": operation, "table": self._table, "key": key}
