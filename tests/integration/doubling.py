"""An engine that sends one write twice, like a client whose first answer was lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from streamer_store.engine import (
    Delete,
    Difference,
    Engine,
    Page,
    Put,
    Query,
    Scan,
    TransactionPart,
    Update,
)
from streamer_store.schema import Index, Table
from streamer_store.values import Item

_Answer = TypeVar("_Answer")


class DoublingEngine:
    """Sends the first write to `table` twice, with `meanwhile` between the copies.

    The caller sees the answer to the second copy only. `before` and `after` are the items
    around that copy; every other call goes through once.
    """

    def __init__(
        self, inner: Engine, table: Table, meanwhile: Callable[[], Awaitable[None]]
    ) -> None:
        self._inner = inner
        self._table = table
        self._meanwhile = meanwhile
        self.doubled = False
        self.before: list[Item] = []
        self.after: list[Item] = []

    def table_name(self, table: Table) -> str:
        return self._inner.table_name(table)

    async def get(self, table: Table, key: str) -> Item | None:
        return await self._inner.get(table, key)

    async def get_many(
        self, table: Table, keys: Sequence[str], *, attributes: tuple[str, ...] = ()
    ) -> list[Item]:
        return await self._inner.get_many(table, keys, attributes=attributes)

    async def put(self, put: Put) -> None:
        await self._send(put.table, [put.key], lambda: self._inner.put(put))

    async def update(self, update: Update) -> Item:
        return await self._send(update.table, [update.key], lambda: self._inner.update(update))

    async def delete(self, delete: Delete) -> None:
        await self._send(delete.table, [delete.key], lambda: self._inner.delete(delete))

    async def put_many(self, table: Table, items: Sequence[Item]) -> None:
        keys = [str(item[table.hash_key]["S"]) for item in items]
        await self._send(table, keys, lambda: self._inner.put_many(table, items))

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        await self._send(table, keys, lambda: self._inner.delete_many(table, keys))

    async def transact(self, parts: Sequence[TransactionPart]) -> None:
        keys = [part.key for part in parts if part.table is parts[0].table]
        await self._send(parts[0].table, keys, lambda: self._inner.transact(parts))

    async def query(self, query: Query) -> Page:
        return await self._inner.query(query)

    async def scan(self, scan: Scan) -> Page:
        return await self._inner.scan(scan)

    async def has_index(self, table: Table, index: Index) -> bool:
        return await self._inner.has_index(table, index)

    async def create_tables(self) -> None:
        await self._inner.create_tables()

    async def check_tables(self) -> list[Difference]:
        return await self._inner.check_tables()

    async def account(self) -> str | None:
        return await self._inner.account()

    async def _send(
        self, table: Table, keys: Sequence[str], send: Callable[[], Awaitable[_Answer]]
    ) -> _Answer:
        if self.doubled or table is not self._table:
            return await send()
        self.doubled = True
        await send()
        await self._meanwhile()
        self.before = await self._items(keys)
        try:
            return await send()
        finally:
            self.after = await self._items(keys)

    async def _items(self, keys: Sequence[str]) -> list[Item]:
        items = await self._inner.get_many(self._table, keys)
        return sorted(items, key=lambda item: str(item[self._table.hash_key]["S"]))
