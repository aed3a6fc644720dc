"""The store of WebSocket connections over any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

import anyio

from streamer_store import bulk_writes, codec
from streamer_store.bulk import Bulk, Items
from streamer_store.bulk_results import BulkSummary, OnResult
from streamer_store.clock import Clock
from streamer_store.conditions import Present, equals
from streamer_store.decoding import ItemDecoder, Report
from streamer_store.engine import (
    ConditionFailed,
    Delete,
    Engine,
    Put,
    Query,
    Scan,
    Update,
    paginate,
)
from streamer_store.errors import NotFound, Undecodable, ungrouped
from streamer_store.models import Connection
from streamer_store.protocols import StaleSweep, SubscriptionStore
from streamer_store.schema import CONNECTIONS, OTHER_TTL, Index
from streamer_store.times import MAX_OFFSET, epoch, format_time
from streamer_store.validation import require_limit, require_text, require_time
from streamer_store.values import Item

if TYPE_CHECKING:
    import random

_SEGMENTS: Final = 4
_CONCURRENT_DELETES: Final = 16
# Sorts after all text that begins with a digit. Other text is no time: the scan returns it, so
# that it is reported.
_AFTER_DIGITS: Final = ":"
_BY_USER: Final = CONNECTIONS.index("UserIndex")
_BY_TENANT: Final = CONNECTIONS.index("TenantIndex")


class ConnectionTable:
    """Implements ConnectionStore.

    `report`: called with the error of each item that cannot be decoded and is left out.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        subscriptions: SubscriptionStore,
        clock: Clock,
        rng: random.Random,
        report: Report,
    ) -> None:
        self._engine = engine
        self._rng = rng
        self._subscriptions = subscriptions
        self._clock = clock
        self._decoder: ItemDecoder[Connection] = ItemDecoder(
            codec.connection, table=engine.table_name(CONNECTIONS), report=report
        )

    async def save(self, connection: Connection) -> Connection:
        record, item = self._stored(connection)
        await self._engine.put(Put(table=CONNECTIONS, item=item))
        return record

    async def save_many(
        self,
        connections: Items[Connection],
        *,
        on_result: OnResult[Connection] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[Connection]:
        bulk = Bulk("save_many", on_result, max_write_units, rng=self._rng)
        return await bulk_writes.put_many(
            bulk, self._engine, CONNECTIONS, connections, self._stored
        )

    async def delete_many(
        self,
        connection_ids: Items[str],
        *,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        bulk = Bulk("delete_many", on_result, max_write_units, rng=self._rng)
        return await bulk_writes.delete_many(
            bulk, self._engine, CONNECTIONS, "connection_id", connection_ids
        )

    async def get(self, connection_id: str) -> Connection:
        require_text("connection_id", connection_id)
        item = await self._engine.get(CONNECTIONS, connection_id)
        if item is None:
            raise self._not_found("get", connection_id)
        return self._decoder.decode_one("get", item)

    async def get_many(self, connection_ids: Iterable[str]) -> dict[str, Connection]:
        keys = list(dict.fromkeys(connection_ids))
        for key in keys:
            require_text("connection_id", key)
        records = {}
        items = await self._engine.get_many(CONNECTIONS, keys)
        for record in self._decoder.decode_all(items):
            records[record.connection_id] = record
        return {key: records[key] for key in keys if key in records}

    async def delete(self, connection_id: str) -> None:
        require_text("connection_id", connection_id)
        await self._engine.delete(Delete(table=CONNECTIONS, key=connection_id))

    async def list_by_user(self, user_id: str, *, limit: int | None = None) -> list[Connection]:
        require_text("user_id", user_id)
        return await self._list(_BY_USER, user_id, limit)

    async def list_by_tenant(self, tenant_id: str, *, limit: int | None = None) -> list[Connection]:
        require_text("tenant_id", tenant_id)
        return await self._list(_BY_TENANT, tenant_id, limit)

    async def list_all(self, *, limit: int | None = None) -> AsyncIterator[Connection]:
        left = None if limit is None else require_limit(limit)
        async with aclosing(paginate(self._engine.scan, Scan(table=CONNECTIONS))) as pages:
            async for page in pages:
                for record in self._decoder.decode_all(page.items):
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
            raise self._not_found("update_last_ping", connection_id) from None

    async def delete_stale(self, before: datetime) -> int:
        return (await self.sweep_stale(before)).deleted

    async def sweep_stale(self, before: datetime, *, dry_run: bool = False) -> StaleSweep:
        require_time("before", before)
        counts = _Counts()
        limiter = anyio.CapacityLimiter(_CONCURRENT_DELETES)
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
        """Scan one segment of the table and delete what is stale, page by page."""
        scan = Scan(
            table=CONNECTIONS,
            segment=segment,
            segments=_SEGMENTS,
            attributes=("ConnectionID", "ConnectedAt", "LastPing"),
            not_between=("LastPing", format_time(_plus_offsets(before)), _AFTER_DIGITS),
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
        """Return whether the connection was last heard from before `before`."""
        try:
            last_heard = codec.last_heard(item)
        except Undecodable as error:
            self._decoder.report(error)
            counts.undecodable += 1
            return False
        return last_heard < before

    async def _delete_if_silent(
        self, item: Item, counts: _Counts, limiter: anyio.CapacityLimiter
    ) -> None:
        """Delete the connection and its subscriptions, if it has not pinged since the scan.

        LEADER-1: two leaders may delete at once.
        """
        connection_id = codec.raw_text(item, "ConnectionID")
        same_ping = equals("LastPing", item.get("LastPing"))
        async with limiter:
            try:
                await self._engine.delete(
                    Delete(table=CONNECTIONS, key=connection_id, conditions=(same_ping,))
                )
            except ConditionFailed as failed:
                # If there is no item, a first copy of this delete or another process deleted it.
                if failed.old is not None:
                    counts.kept += 1
                    return
            counts.deleted += 1
            await self._subscriptions.delete_by_connection(connection_id)

    def _stored(self, connection: Connection) -> tuple[Connection, Item]:
        """Return the connection as it is stored, and its item. Raises ValidationError."""
        ttl = connection.ttl
        if ttl is None:
            ttl = epoch(self._clock.now(), OTHER_TTL)
        record = replace(connection, ttl=ttl)
        return record, codec.connection_item(record)

    async def _list(self, index: Index, value: str, limit: int | None) -> list[Connection]:
        """Return the connections of an index partition, at most `limit`."""
        most = None if limit is None else require_limit(limit)
        query = Query(table=CONNECTIONS, index=index, value=value, limit=most)
        connections: list[Connection] = []
        async with aclosing(paginate(self._engine.query, query)) as pages:
            async for page in pages:
                connections += self._decoder.decode_all(page.items)
                if most is not None and len(connections) >= most:
                    break
        return connections[:most]

    def _not_found(self, operation: str, connection_id: str) -> NotFound:
        return NotFound("no such connection", **self._decoder.location(operation, connection_id))


@dataclass(slots=True)
class _Counts:
    """The fields of StaleSweep while the sweep runs. Its tasks share one instance."""

    found: int = 0
    deleted: int = 0
    kept: int = 0
    undecodable: int = 0


def _plus_offsets(moment: datetime) -> datetime:
    """Return a time whose text sorts after the text of `moment` with any offset."""
    try:
        return moment + MAX_OFFSET
    except OverflowError:
        return moment
