"""The store of schedules over any engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from streamer_store import writes
from streamer_store.clock import Clock
from streamer_store.conditions import Absent, Condition, Present, equals
from streamer_store.decoding import ItemDecoder, Report
from streamer_store.engine import ConditionFailed, Delete, Engine, Put, TransactionFailed, Update
from streamer_store.models import AsyncRequest
from streamer_store.request_producer import RequestProducer
from streamer_store.schedule_row import (
    ScheduleRow,
    decode_schedule,
    definition_attributes,
    require_schedule_name,
    row_key,
    schedule_item,
    tick_id,
)
from streamer_store.schema import WORKERS
from streamer_store.times import format_time
from streamer_store.validation import require_text
from streamer_store.values import AttributeValue, Item

if TYPE_CHECKING:
    from streamer_store.new_request import NewRequest


class ScheduleTable:
    """Implements ScheduleStore. `producer` makes the items of the requests."""

    def __init__(
        self, *, engine: Engine, producer: RequestProducer, clock: Clock, report: Report
    ) -> None:
        self._engine = engine
        self._producer = producer
        self._clock = clock
        self._decoder: ItemDecoder[ScheduleRow] = ItemDecoder(
            decode_schedule, table=engine.table_name(WORKERS), report=report
        )

    async def get(self, name: str) -> ScheduleRow | None:
        require_schedule_name(name)
        item = await self._engine.get(WORKERS, row_key(name))
        return None if item is None else self._decoder.decode_one("get_schedule", item)

    async def create(self, row: ScheduleRow) -> ScheduleRow:
        put = Put(table=WORKERS, item=schedule_item(row), conditions=(Absent("WorkerID"),))
        try:
            await self._engine.put(put)
        except ConditionFailed as failed:
            if failed.old is not None:
                return self._decoder.decode_one("create_schedule", failed.old)
        return row

    async def change(self, seen: ScheduleRow, row: ScheduleRow) -> bool:
        try:
            await self._engine.update(_change(seen, row))
        except ConditionFailed as failed:
            return failed.old is not None and _is_written(failed.old, row)
        return True

    async def make_tick(self, seen: ScheduleRow, tick: datetime, request: AsyncRequest) -> bool:
        new = self._producer.prepare_own(replace(request, request_id=tick_id(seen.name, tick)))
        row = replace(seen, last_tick=tick, made_tick=tick, listed_at=self._clock.now())
        # CRON-1: with two writes, a crash between them would leave it open whether the tick was
        # made. Its request could be gone before another worker looks for it.
        return await self._store(new, _change(seen, row))

    async def request_run(self, name: str, request_id: str) -> str | None:
        require_schedule_name(name)
        require_text("request_id", request_id)
        order = Update(
            table=WORKERS,
            key=row_key(name),
            sets={"Run": {"S": request_id}},
            conditions=(Present("Definition"), Absent("Run")),
            returning=False,
        )
        try:
            await self._engine.update(order)
        except ConditionFailed as failed:
            return (failed.old or {}).get("Run", {}).get("S")
        return request_id

    async def make_run(self, seen: ScheduleRow, request: AsyncRequest) -> bool:
        require_text("run", seen.run)
        new = self._producer.prepare_own(replace(request, request_id=str(seen.run)))
        done = Update(
            table=WORKERS,
            key=seen.key,
            removes=("Run",),
            conditions=(equals("Run", {"S": str(seen.run)}),),
            returning=False,
        )
        return await self._store(new, done)

    async def remove(self, seen: ScheduleRow) -> bool:
        conditions = (*_as_seen(seen), equals("ListedAt", _time(seen.listed_at)))
        try:
            await self._engine.delete(Delete(table=WORKERS, key=seen.key, conditions=conditions))
        except ConditionFailed as failed:
            return failed.old is None
        return True

    async def _store(self, new: NewRequest, update: Update) -> bool:
        """Store a request and update the row, both or none. Return whether the row is updated.

        If the request is there already, the row alone is updated.
        """
        try:
            await self._engine.transact((writes.enqueue(new.item), update))
        except TransactionFailed as failed:
            if 1 in failed.old:
                return False
        else:
            return True
        try:
            await self._engine.update(update)
        except ConditionFailed:
            return False
        return True


def _as_seen(seen: ScheduleRow) -> tuple[Condition, ...]:
    return (
        equals("LastTick", _time(seen.last_tick)),
        equals("Definition", {"S": seen.definition}),
    )


def _change(seen: ScheduleRow, row: ScheduleRow) -> Update:
    """Return the update that replaces a row as it was seen (CRON-1)."""
    return Update(
        table=WORKERS,
        key=seen.key,
        sets=definition_attributes(row),
        conditions=_as_seen(seen),
        returning=False,
    )


def _is_written(item: Item, row: ScheduleRow) -> bool:
    """Return whether the item is as the change would have left it."""
    written = definition_attributes(row)
    return all(item.get(name) == value for name, value in written.items())


def _time(moment: datetime) -> AttributeValue:
    return {"S": format_time(moment)}
