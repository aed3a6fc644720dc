"""The WebSocket connections, over any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import anyio

from streamer_store import codec
from streamer_store.clock import Clock
from streamer_store.engine import (
    ConditionFailed,
    Delete,
    Engine,
    Present,
    Put,
    Query,
    Scan,
    Update,
    paginate,
)
from streamer_store.engine import equals as equal_to
from streamer_store.errors import NotFound, Undecodable, located, ungrouped
from streamer_store.models import Connection, require_limit, require_text, require_time
from streamer_store.protocols import StaleSweep, SubscriptionStore
from streamer_store.schema import CONNECTIONS, OTHER_TTL, Index
from streamer_store.times import MAX_OFFSET, epoch, format_time
from streamer_store.values import Item

_SEGMENTS = 4
_DELETES_AT_ONCE = 16
# Text that does not begin with a digit is no time: it must come, to be told.
_PAST_DIGITS = ":"
_BY_USER = CONNECTIONS.index("UserIndex")
_BY_TENANT = CONNECTIONS.index("TenantIndex")


class ConnectionTable:
    """Implements ConnectionStore. `report` hears of items that cannot be decoded."""

    def __init__(
        self,
        *,
        engine: Engine,
        subscriptions: SubscriptionStore,
        clock: Clock,
        report: Callable[[Undecodable], None],
    ) -> None:
        self._engine = engine
        self._subscriptions = subscriptions
        self._clock = clock
        self._report = report
        self._table = engine.table_name(CONNECTIONS)

    async def save(self, connection: Connection) -> Connection:
        ttl = connection.ttl
        if ttl is None:
            ttl = epoch(self._clock.now(), OTHER_TTL)
        record = replace(connection, ttl=ttl)
        await self._engine.put(Put(table=CONNECTIONS, item=codec.connection_item(record)))
        return record

    async def get(self, connection_id: str) -> Connection:
        require_text("connection_id", connection_id)
        item = await self._engine.get(CONNECTIONS, connection_id)
        if item is None:
            raise NotFound("no such connection", **self._at("get", connection_id))
        with located("get", self._table):
            return codec.connection(item)

    async def get_many(self, connection_ids: Iterable[str]) -> dict[str, Connection]:
        keys = list(dict.fromkeys(connection_ids))
        for key in keys:
            require_text("connection_id", key)
        items = await self._engine.get_many(CONNECTIONS, keys)
        found = {record.connection_id: record for record in self._decoded(items)}
        return {key: found[key] for key in keys if key in found}

    async def delete(self, connection_id: str) -> None:
        require_text("connection_id", connection_id)
        await self._engine.delete(Delete(table=CONNECTIONS, key=connection_id))

    async def list_by_user(self, user_id: str) -> list[Connection]:
        require_text("user_id", user_id)
        return await self._listed(_BY_USER, user_id)

    async def list_by_tenant(self, tenant_id: str) -> list[Connection]:
        require_text("tenant_id", tenant_id)
        return await self._listed(_BY_TENANT, tenant_id)

    async def list_all(self, *, limit: int | None = None) -> AsyncIterator[Connection]:
        left = None if limit is None else require_limit(limit)
        async with aclosing(paginate(self._engine.scan, Scan(table=CONNECTIONS))) as pages:
            async for page in pages:
                for record in self._decoded(page.items):
                    yield record
                    left = None if left is None else left - 1
                    if left == 0:
                        return

    async def update_last_ping(self, connection_id: str) -> None:
        require_text("connection_id", connection_id)
        now = self._clock.now()
        update = Update(
            table=CONNECTIONS,
            key=connection_id,
            sets={
                "LastPing": {"S": format_time(now)},
                "TTL": {"N": str(epoch(now, OTHER_TTL))},
            },
            conditions=(Present("ConnectionID"),),
        )
        try:
            await self._engine.update(update)
        except ConditionFailed:
            where = self._at("update_last_ping", connection_id)
            raise NotFound("no such connection", **where) from None

    async def delete_stale(self, before: datetime) -> int:
        return (await self.sweep_stale(before)).deleted

    async def sweep_stale(self, before: datetime, *, dry_run: bool = False) -> StaleSweep:
        require_time("before", before)
        counts = _Counts()
        limiter = anyio.CapacityLimiter(_DELETES_AT_ONCE)
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for segment in range(_SEGMENTS):
                    tasks.start_soon(self._sweep_segment, segment, before, dry_run, counts, limiter)
        return StaleSweep(
            found=counts.found,
            deleted=counts.deleted,
            kept=counts.kept,
            undecodable=counts.undecodable,
        )

    async def _sweep_segment(
        self,
        segment: int,
        before: datetime,
        dry_run: bool,  # noqa: FBT001  positional because start_soon takes no keywords
        counts: _Counts,
        limiter: anyio.CapacityLimiter,
    ) -> None:
        scan = Scan(
            table=CONNECTIONS,
            segment=segment,
            segments=_SEGMENTS,
            attributes=("ConnectionID", "ConnectedAt", "LastPing"),
            not_between=("LastPing", format_time(_sooner(before)), _PAST_DIGITS),
        )
        async with aclosing(paginate(self._engine.scan, scan)) as pages:
            async for page in pages:
                async with anyio.create_task_group() as tasks:
                    for item in page.items:
                        if not self._is_stale(item, before, counts):
                            continue
                        counts.found += 1
                        if not dry_run:
                            tasks.start_soon(self._delete_if_silent, item, counts, limiter)

    def _is_stale(self, item: Item, before: datetime, counts: _Counts) -> bool:
        try:
            heard = codec.last_heard(item)
        except Undecodable as error:
            error.table = self._table
            self._report(error)
            counts.undecodable += 1
            return False
        return heard < before

    async def _delete_if_silent(
        self, item: Item, counts: _Counts, limiter: anyio.CapacityLimiter
    ) -> None:
        connection_id = codec.raw_text(item, "ConnectionID")
        same_ping = equal_to("LastPing", item.get("LastPing"))
        async with limiter:
            try:
                await self._engine.delete(
                    Delete(table=CONNECTIONS, key=connection_id, conditions=(same_ping,))
                )
            except ConditionFailed as failed:
                # No item: our own first copy, or somebody else, has deleted it.
                if failed.old is not None:
                    counts.kept += 1
                    return
            counts.deleted += 1
            await self._subscriptions.delete_by_connection(connection_id)

    async def _listed(self, index: Index, value: str) -> list[Connection]:
        found: list[Connection] = []
        query = Query(table=CONNECTIONS, index=index, value=value)
        async for page in paginate(self._engine.query, query):
            found += self._decoded(page.items)
        return found

    def _decoded(self, items: Iterable[Item]) -> list[Connection]:
        found = []
        for item in items:
            try:
                found.append(codec.connection(item))
            except Undecodable as error:
                error.table = self._table
                self._report(error)
        return found

    def _at(self, operation: str, key: str) -> dict[str, Any]:
        return {"operation": operation, "table": self._table, "key": key}


@dataclass(slots=True)
class _Counts:
    found: int = 0
    deleted: int = 0
    kept: int = 0
    undecodable: int = 0


def _sooner(before: datetime) -> datetime:
    try:
        return before + MAX_OFFSET
    except OverflowError:
        return before
