"""A cache of connections and subscriptions: an engine around the engine.

It serves what every message to a connection reads: connections by id, and the subscriptions of a
request. The tables remain the truth. A call gets what was read less than `max_age` before it,
counted from the beginning of the read. What is read from an index also lags (`Engine.query`).
Writes of this engine are seen at once.

1. Reads of a key at the same moment share one read.
2. Absent items and empty lists are cached too. But `get` reads an absent item again, since its
   caller decides what to do about that.
3. An error is raised in all callers that share the read, and is not cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from streamer_store.cache import Cache
from streamer_store.clock import Clock
from streamer_store.engine import Delete, Engine, Page, Put, Query, TransactionPart, Update
from streamer_store.models import request_of_subscription
from streamer_store.schema import CONNECTIONS, SUBSCRIPTIONS, Table
from streamer_store.shared_reads import SharedReads
from streamer_store.values import Item

_BY_REQUEST: Final = SUBSCRIPTIONS.index("RequestIndex")


class CachingEngine:
    """Implements Engine over an Engine. Runs in one event loop.

    `require_open`: called before what may be answered from the cache. Raises if `engine` cannot be
    used here.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        cache: Cache,
        clock: Clock,
        require_open: Callable[[], object] = int,
    ) -> None:
        self._engine = engine
        self._require_open = require_open
        self._observe = cache.observe
        self._connections: SharedReads[Item | None] = SharedReads(
            cache, clock, is_present=lambda item: item is not None
        )
        self._subscriptions: SharedReads[Page] | None = None
        if cache.subscriptions:
            self._subscriptions = SharedReads(
                cache, clock, is_present=lambda page: bool(page.items)
            )
        self.table_name = engine.table_name
        self.scan = engine.scan
        self.has_index = engine.has_index
        self.create_tables = engine.create_tables
        self.check_tables = engine.check_tables
        self.account = engine.account

    async def get(self, table: Table, key: str) -> Item | None:
        if table is not CONNECTIONS:
            return await self._engine.get(table, key)
        self._connections.forget_unless(key, lambda item: item is not None)
        return (await self._read_connections([key]))[key]

    async def get_many(
        self, table: Table, keys: Sequence[str], *, attributes: tuple[str, ...] = ()
    ) -> list[Item]:
        if table is not CONNECTIONS or attributes:
            return await self._engine.get_many(table, keys, attributes=attributes)
        found = await self._read_connections(list(dict.fromkeys(keys)))
        return [item for item in found.values() if item is not None]

    async def query(self, query: Query) -> Page:
        reads = self._subscriptions
        plain = Query(table=SUBSCRIPTIONS, index=_BY_REQUEST, value=query.value)
        if reads is None or query != plain:
            return await self._engine.query(query)

        async def read(_: Sequence[str]) -> dict[str, Page]:
            return {query.value: await self._engine.query(query)}

        self._require_open()
        pages = await reads.get([query.value], read)
        self._report(SUBSCRIPTIONS, reads)
        page = pages[query.value]
        if page.last_evaluated_key is not None:  # the further pages are not cached
            reads.forget([query.value])
        return page

    async def put(self, put: Put) -> None:
        try:
            await self._engine.put(put)
        finally:
            self._forget([put])

    async def update(self, update: Update) -> Item:
        try:
            return await self._engine.update(update)
        finally:
            self._forget([update])

    async def delete(self, delete: Delete) -> None:
        try:
            await self._engine.delete(delete)
        finally:
            self._forget([delete])

    async def put_many(self, table: Table, items: Sequence[Item]) -> None:
        try:
            await self._engine.put_many(table, items)
        finally:
            self._forget([Put(table=table, item=item) for item in items])

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        try:
            await self._engine.delete_many(table, keys)
        finally:
            self._forget([Delete(table=table, key=key) for key in keys])

    async def transact(self, parts: Sequence[TransactionPart]) -> None:
        try:
            await self._engine.transact(parts)
        finally:
            self._forget(parts)

    async def _read_connections(self, keys: Sequence[str]) -> Mapping[str, Item | None]:
        async def read(missing: Sequence[str]) -> dict[str, Item | None]:
            if len(missing) == 1:
                return {missing[0]: await self._engine.get(CONNECTIONS, missing[0])}
            items = await self._engine.get_many(CONNECTIONS, missing)
            found = {str(item[CONNECTIONS.hash_key]["S"]): item for item in items}
            return {key: found.get(key) for key in missing}

        self._require_open()
        found = await self._connections.get(keys, read)
        self._report(CONNECTIONS, self._connections)
        return found

    def _forget(self, parts: Iterable[TransactionPart]) -> None:
        """Forget what was written, also after an error: the write may have taken effect."""
        for part in parts:
            if part.table is CONNECTIONS:
                self._connections.forget([part.key])
            elif part.table is SUBSCRIPTIONS and self._subscriptions is not None:
                request_id = request_of_subscription(part.key)
                if request_id is None:
                    self._subscriptions.forget_all()
                else:
                    self._subscriptions.forget([request_id])

    def _report(self, table: Table, reads: SharedReads[Any]) -> None:
        if self._observe is not None:
            self._observe(reads.take_use(self._engine.table_name(table)))
