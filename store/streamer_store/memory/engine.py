"""The engine on dictionaries. Every operation is atomic, also between threads."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final, TypeVar

import anyio.lowlevel

from streamer_store.conditions import Absent, Below, Between, Condition, OneOf, Present
from streamer_store.engine import (
    ConditionFailed,
    Delete,
    Difference,
    Page,
    Put,
    Query,
    Scan,
    TransactionFailed,
    TransactionPart,
    Update,
)
from streamer_store.errors import ItemTooLarge, TableMissing
from streamer_store.schema import TABLES, Index, Table
from streamer_store.table_names import DEFAULT_NAMES, TableNames
from streamer_store.values import MAX_ITEM_BYTES, AttributeValue, Item, item_size

_Value = TypeVar("_Value")
_SortKey = Callable[[Item], tuple[bytes, str]]
_PAGE_ITEMS: Final = 100


class MemoryEngine:
    """Implements Engine in memory. Every call yields to other tasks once, before it acts.

    Indexes do not lag behind their tables, and TTL deletes nothing.
    """

    def __init__(self, *, names: TableNames = DEFAULT_NAMES, page_items: int = _PAGE_ITEMS) -> None:
        """Build an engine with empty tables. `page_items`: the most items of one page.

        The names in `missing_indexes` are those of optional indexes that its tables lack.
        """
        self.missing_indexes: set[str] = set()
        self.table_name = names.of
        self._page_items = page_items
        self._tables: dict[str, dict[str, Item]] = {table.name: {} for table in TABLES}
        self._lock = threading.Lock()

    async def get(self, table: Table, key: str) -> Item | None:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            return _copied(self._rows(table).get(key))

    async def get_many(
        self, table: Table, keys: Sequence[str], *, attributes: tuple[str, ...] = ()
    ) -> list[Item]:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            rows = self._rows(table)
            names = (table.hash_key, *attributes) if attributes else ()
            return [
                _copied(_picked(rows[key], names)) for key in dict.fromkeys(keys) if key in rows
            ]

    async def put(self, put: Put) -> None:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            self._require(put.table, put.key, put.conditions)
            self._store(put.table, put.key, self._after(put))

    async def update(self, update: Update) -> Item:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            self._require(update.table, update.key, update.conditions)
            item = self._after(update)
            self._store(update.table, update.key, item)
            return _copied(item) if update.returning else {}

    async def delete(self, delete: Delete) -> None:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            self._require(delete.table, delete.key, delete.conditions)
            self._rows(delete.table).pop(delete.key, None)

    async def put_many(self, table: Table, items: Sequence[Item]) -> None:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            puts = [Put(table=table, item=item) for item in items]
            for put in puts:
                self._require_room(table, put.key, put.item)
            for put in puts:
                self._store(table, put.key, self._after(put))

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            for key in keys:
                self._rows(table).pop(key, None)

    async def transact(self, parts: Sequence[TransactionPart]) -> None:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            failed: dict[int, Item | None] = {}
            for place, part in enumerate(parts):
                try:
                    self._require(part.table, part.key, part.conditions)
                except ConditionFailed as error:
                    failed[place] = error.old
            if failed:
                raise TransactionFailed(failed)
            written = [
                (part, self._after(part)) for part in parts if isinstance(part, Put | Update)
            ]
            for part, item in written:
                self._require_room(part.table, part.key, item)
            for part, item in written:
                self._store(part.table, part.key, item)
            for part in parts:
                if isinstance(part, Delete):
                    self._rows(part.table).pop(part.key, None)

    async def query(self, query: Query) -> Page:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            index = query.index
            if index.name in self.missing_indexes:
                raise TableMissing(f"no index {index.name}", table=self.table_name(query.table))
            matches = [
                item
                for item in self._rows(query.table).values()
                if item.get(index.hash_key) == {"S": query.value}
                and (index.range_key is None or index.range_key in item)
                and _is_in_range(item, query)
            ]
            sort_key = _sort_key(query.table, index)
            matches.sort(key=sort_key, reverse=not query.ascending)
            remaining = _after_start_key(matches, query, sort_key)
            key_names = (query.table.hash_key, index.hash_key, index.range_key or "")
            page = _page(
                remaining, self._limit(query), key_names, lambda item: _projected(item, query)
            )
            return Page((), page.last_evaluated_key, page.count) if query.count_only else page

    async def scan(self, scan: Scan) -> Page:
        await anyio.lowlevel.checkpoint()
        with self._lock:
            rows = self._rows(scan.table)
            hash_key = scan.table.hash_key
            keys = sorted(
                key for key in rows if zlib.crc32(key.encode()) % scan.segments == scan.segment
            )
            start = scan.exclusive_start_key[hash_key]["S"] if scan.exclusive_start_key else ""
            remaining = [rows[key] for key in keys if key > start]
            page = _page(remaining, self._limit(scan), (hash_key,), lambda item: item)
            # As in DynamoDB, the filter comes after the page's limit: a page may be empty.
            items = [item for item in page.items if not _is_between(item, scan.not_between)]
            return Page([_picked(item, scan.attributes) for item in items], page.last_evaluated_key)

    async def has_index(self, table: Table, index: Index) -> bool:  # noqa: ARG002
        await anyio.lowlevel.checkpoint()
        return index.name not in self.missing_indexes

    async def create_tables(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def check_tables(self) -> list[Difference]:
        await anyio.lowlevel.checkpoint()
        return []

    async def account(self) -> str | None:
        await anyio.lowlevel.checkpoint()
        return None

    def _limit(self, read: Query | Scan) -> int:
        return self._page_items if read.limit is None else min(self._page_items, read.limit)

    def _rows(self, table: Table) -> dict[str, Item]:
        return self._tables[table.name]

    def _after(self, write: Put | Update) -> Item:
        """Return the item as it is after the write."""
        if isinstance(write, Put):
            return write.item
        item = dict(self._rows(write.table).get(write.key, {}))
        item[write.table.hash_key] = {"S": write.key}
        item.update({name: item.get(name, value) for name, value in write.if_not_exists.items()})
        item.update(write.sets)
        for name, amount in write.adds.items():
            item[name] = _added(item.get(name), amount)
        for name, members in write.deletes.items():
            _delete_from_set(item, name, members)
        for name in write.removes:
            item.pop(name, None)
        return item

    def _store(self, table: Table, key: str, item: Item) -> None:
        self._require_room(table, key, item)
        self._rows(table)[key] = _copied(dict(item))

    def _require_room(self, table: Table, key: str, item: Item) -> None:
        size = item_size(item)
        if size > MAX_ITEM_BYTES:
            raise ItemTooLarge("item", f"{size} bytes", table=self.table_name(table), key=key)

    def _require(self, table: Table, key: str, conditions: Iterable[Condition]) -> None:
        old = self._rows(table).get(key)
        if not all(_holds(condition, old or {}) for condition in conditions):
            raise ConditionFailed(_copied(old))


def _copied(value: _Value) -> _Value:
    """Return a copy that the caller may change.

    Faster than copy.deepcopy, which checks for cycles. An item has none.
    """
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_copied(part) for part in value]  # type: ignore[return-value]
    return value


def _holds(condition: Condition, item: Item) -> bool:
    stored = item.get(condition.name)
    match condition:
        case Absent():
            return stored is None
        case Present():
            return stored is not None
        case OneOf(values=values):
            return stored in values
        case Below(value=value):
            return stored is not None and "N" in stored and _number(stored) < _number(value)
        case Between(low=low, high=high):
            return (
                stored is not None
                and "N" in stored
                and _number(low) <= _number(stored) <= _number(high)
            )


def _number(value: AttributeValue) -> Decimal:
    return Decimal(value["N"])


def _added(stored: AttributeValue | None, amount: AttributeValue) -> AttributeValue:
    if "N" in amount:
        return {"N": str((_number(stored) if stored else Decimal()) + _number(amount))}
    return {"SS": sorted({*(stored or {"SS": ()})["SS"], *amount["SS"]})}


def _delete_from_set(item: dict[str, AttributeValue], name: str, members: AttributeValue) -> None:
    """Delete members of a set. DynamoDB removes an attribute whose set becomes empty."""
    remaining = sorted({*item.get(name, {"SS": ()})["SS"]} - {*members["SS"]})
    if remaining:
        item[name] = {"SS": remaining}
    else:
        item.pop(name, None)


def _sort_key(table: Table, index: Index) -> _SortKey:
    """Return the function that orders the items of an index: by range key, then by hash key.

    DynamoDB sorts text by its UTF-8 bytes.
    """

    def sort_key(item: Item) -> tuple[bytes, str]:
        range_value = item[index.range_key]["S"].encode() if index.range_key else b""
        return range_value, item[table.hash_key]["S"]

    return sort_key


def _is_in_range(item: Item, query: Query) -> bool:
    range_key = query.index.range_key
    if range_key is None:
        return True
    text = item[range_key]["S"].encode()
    low, high = query.at_least, query.at_most
    return (low is None or low["S"].encode() <= text) and (
        high is None or text <= high["S"].encode()
    )


def _after_start_key(items: list[Item], query: Query, sort_key: _SortKey) -> list[Item]:
    """Return the sorted items that follow the query's `exclusive_start_key`."""
    if query.exclusive_start_key is None:
        return items
    start = sort_key(query.exclusive_start_key)
    if query.ascending:
        return [item for item in items if sort_key(item) > start]
    return [item for item in items if sort_key(item) < start]


def _page(
    items: list[Item], limit: int, key_names: Sequence[str], project: Callable[[Item], Item]
) -> Page:
    """Return the first `limit` items as `project` makes them, and the key of the last one."""
    page_items = items[:limit]
    last_key = _picked(page_items[-1], key_names) if len(items) > limit else None
    projected = [_copied(project(item)) for item in page_items]
    return Page(projected, _copied(last_key), len(projected))


def _projected(item: Item, query: Query) -> Item:
    index = query.index
    if index.non_key_attributes is not None:
        key_names = (query.table.hash_key, index.hash_key, index.range_key or "")
        item = _picked(item, (*key_names, *index.non_key_attributes))
    return _picked(item, query.attributes)


def _picked(item: Item, names: Sequence[str]) -> Item:
    """Return only these attributes of the item, or the item itself where there are no names."""
    return {name: item[name] for name in names if name in item} if names else item


def _is_between(item: Item, bounds: tuple[str, str, str] | None) -> bool:
    if bounds is None:
        return False
    name, low, high = bounds
    text = item.get(name, {}).get("S")
    return text is not None and low <= text <= high
