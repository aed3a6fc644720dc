"""DynamoDB's operations on dictionaries, each of them atomic."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import anyio.lowlevel

from streamer_store.engine import (
    Absent,
    Below,
    Condition,
    ConditionFailed,
    Delete,
    Difference,
    OneOf,
    Page,
    Present,
    Put,
    Query,
    Scan,
    Update,
)
from streamer_store.errors import ItemTooLarge
from streamer_store.schema import TABLES, Index, Table
from streamer_store.values import MAX_ITEM_BYTES, AttributeValue, Item, item_size

Copied = TypeVar("Copied")
_PAGE = 100


class MemoryEngine:
    """Holds the items as DynamoDB would. Every call yields to other tasks once, before it acts."""

    def __init__(self, *, prefix: str = "streamer_", page: int = _PAGE) -> None:
        self._prefix = prefix
        self._page = page
        self._tables: dict[str, dict[str, Item]] = {table.name: {} for table in TABLES}

    def table_name(self, table: Table) -> str:
        return self._prefix + table.name

    async def get(self, table: Table, key: str) -> Item | None:
        await anyio.lowlevel.checkpoint()
        return _copied(self._rows(table).get(key))

    async def get_many(self, table: Table, keys: Sequence[str]) -> list[Item]:
        await anyio.lowlevel.checkpoint()
        rows = self._rows(table)
        return [_copied(rows[key]) for key in dict.fromkeys(keys) if key in rows]

    async def put(self, put: Put) -> None:
        await anyio.lowlevel.checkpoint()
        self._require(put.table, put.key, put.conditions)
        self._store(put.table, put.key, put.item)

    async def update(self, update: Update) -> Item:
        await anyio.lowlevel.checkpoint()
        self._require(update.table, update.key, update.conditions)
        item = dict(self._rows(update.table).get(update.key, {}))
        item[update.table.hash_key] = {"S": update.key}
        item.update({name: item.get(name, value) for name, value in update.initial.items()})
        item.update(update.sets)
        for name, amount in update.adds.items():
            item[name] = _added(item.get(name), amount)
        for name, gone in update.deletes.items():
            _delete_from_set(item, name, gone)
        for name in update.removes:
            item.pop(name, None)
        self._store(update.table, update.key, item)
        return _copied(item) if update.returning else {}

    async def delete(self, delete: Delete) -> None:
        await anyio.lowlevel.checkpoint()
        self._require(delete.table, delete.key, delete.conditions)
        self._rows(delete.table).pop(delete.key, None)

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        await anyio.lowlevel.checkpoint()
        for key in keys:
            self._rows(table).pop(key, None)

    async def query(self, query: Query) -> Page:
        await anyio.lowlevel.checkpoint()
        index = query.index
        found = [
            item
            for item in self._rows(query.table).values()
            if item.get(index.hash_key) == {"S": query.value}
            and (index.range_key is None or index.range_key in item)
            and _reaches(item, index, query.at_least)
        ]
        ordered = sorted(found, key=_order(query.table, index), reverse=not query.ascending)
        rest = _rest(ordered, query, _order(query.table, index))
        size = self._page if query.limit is None else min(self._page, query.limit)
        keys = (query.table.hash_key, index.hash_key, index.range_key or "")
        page = _page(rest, size, keys, lambda item: _projected(item, query))
        return Page((), page.after, page.count) if query.counts else page

    async def scan(self, scan: Scan) -> Page:
        await anyio.lowlevel.checkpoint()
        rows = self._rows(scan.table)
        keys = sorted(
            key for key in rows if zlib.crc32(key.encode()) % scan.segments == scan.segment
        )
        after = scan.after[scan.table.hash_key]["S"] if scan.after else ""
        chosen = [rows[key] for key in keys if key > after]
        page = _page(chosen, self._page, (scan.table.hash_key,), lambda item: item)
        found = [item for item in page.items if not _between(item, scan.unless_between)]
        return Page([_picked(item, scan.attributes) for item in found], page.after)

    async def create_tables(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def check_tables(self) -> list[Difference]:
        await anyio.lowlevel.checkpoint()
        return []

    def _rows(self, table: Table) -> dict[str, Item]:
        return self._tables[table.name]

    def _store(self, table: Table, key: str, item: Item) -> None:
        size = item_size(item)
        if size > MAX_ITEM_BYTES:
            raise ItemTooLarge("item", f"{size} bytes", table=self.table_name(table), key=key)
        self._rows(table)[key] = _copied(dict(item))

    def _require(self, table: Table, key: str, conditions: Iterable[Condition]) -> None:
        old = self._rows(table).get(key)
        if not all(_holds(condition, old or {}) for condition in conditions):
            raise ConditionFailed(_copied(old))


def _copied(item: Copied) -> Copied:
    """Return a copy that its owner may change. Faster than copy.deepcopy, which looks for
    cycles: an item has none.
    """
    if isinstance(item, dict):
        return {name: _copied(value) for name, value in item.items()}  # type: ignore[return-value]
    if isinstance(item, list):
        return [_copied(value) for value in item]  # type: ignore[return-value]
    return item


def _holds(condition: Condition, item: Item) -> bool:
    found = item.get(condition.name)
    match condition:
        case Absent():
            return found is None
        case Present():
            return found is not None
        case OneOf(values=values):
            return found in values
        case Below(value=value):
            return found is not None and "N" in found and _n(found) < _n(value)


def _n(value: AttributeValue) -> Decimal:
    return Decimal(value["N"])


def _added(old: AttributeValue | None, amount: AttributeValue) -> AttributeValue:
    if "N" in amount:
        return {"N": str((_n(old) if old else Decimal()) + _n(amount))}
    return {"SS": sorted({*(old or {"SS": ()})["SS"], *amount["SS"]})}


def _delete_from_set(item: dict[str, AttributeValue], name: str, gone: AttributeValue) -> None:
    left = sorted({*item.get(name, {"SS": ()})["SS"]} - {*gone["SS"]})
    if left:
        item[name] = {"SS": left}
    else:
        item.pop(name, None)


def _order(table: Table, index: Index) -> Any:
    def order(item: Item) -> tuple[bytes, str]:
        ranged = item[index.range_key]["S"].encode() if index.range_key else b""
        return ranged, item[table.hash_key]["S"]

    return order


def _reaches(item: Item, index: Index, bound: AttributeValue | None) -> bool:
    if bound is None or index.range_key is None:
        return True
    return bool(item[index.range_key]["S"].encode() >= bound["S"].encode())


def _rest(ordered: list[Item], query: Query, order: Any) -> list[Item]:
    if query.after is None:
        return ordered
    mark = order(query.after)
    return [
        item for item in ordered if (order(item) > mark if query.ascending else order(item) < mark)
    ]


def _page(items: list[Item], size: int, keys: Sequence[str], project: Any) -> Page:
    chosen = items[:size]
    after = _picked(chosen[-1], keys) if len(items) > size else None
    found = [_copied(project(item)) for item in chosen]
    return Page(found, _copied(after), len(found))


def _projected(item: Item, query: Query) -> Item:
    index = query.index
    if index.projected is not None:
        keys = (query.table.hash_key, index.hash_key, index.range_key or "")
        item = _picked(item, (*keys, *index.projected))
    return _picked(item, query.attributes)


def _picked(item: Item, names: Sequence[str]) -> Item:
    return {name: item[name] for name in names if name in item} if names else item


def _between(item: Item, bounds: tuple[str, str, str] | None) -> bool:
    if bounds is None:
        return False
    name, low, high = bounds
    text = item.get(name, {}).get("S")
    return text is not None and low <= text <= high
