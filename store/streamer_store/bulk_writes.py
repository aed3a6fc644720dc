"""Bulk writes without conditions, 25 to a call (BatchWriteItem)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from streamer_store.bulk import Bulk, Entry, Items
from streamer_store.bulk_results import BulkSummary
from streamer_store.engine import Engine
from streamer_store.errors import InvalidInput, ValidationError
from streamer_store.schema import Table
from streamer_store.values import Item
from streamer_store.write_units import write_units

Record = TypeVar("Record")


async def put_many(
    bulk: Bulk[Record],
    engine: Engine,
    table: Table,
    records: Items[Record],
    stored: Callable[[Record], tuple[Record, Item]],
) -> BulkSummary[Record]:
    """Store the records, which replace those with the same keys.

    `stored`: returns a record as it is stored, and its item, or raises a ValidationError.
    """

    async def put(chunk: Sequence[Entry[Record]]) -> None:
        # Of the records with the same key, the last one is stored.
        items: dict[str, Item] = {}
        done: list[tuple[int, str, Record]] = []
        for position, given in chunk:
            try:
                record, item = stored(given)
            except ValidationError as error:
                bulk.refuse(position, error.key, error)
                continue
            key = str(item[table.hash_key]["S"])
            items[key] = item
            done.append((position, key, record))
        await bulk.limiter.spend(sum(write_units(table, None, item) for item in items.values()))
        await _together(
            bulk, done, lambda keys: engine.put_many(table, [items[key] for key in keys])
        )

    return await bulk.run(records, put)


async def delete_many(
    bulk: Bulk[Any], engine: Engine, table: Table, field: str, keys: Items[str]
) -> BulkSummary[Any]:
    """Delete the items with these keys. `field`: what the keys are, for errors."""

    async def delete(chunk: Sequence[Entry[str]]) -> None:
        entries = bulk.valid_keys(field, chunk)
        if bulk.limiter.is_limited:
            wanted = [key for _, key in entries]
            items = await bulk.attempt(lambda: engine.get_many(table, wanted))
            await bulk.limiter.spend(sum(write_units(table, item, None) for item in items))
        done = [(position, key, None) for position, key in entries]
        await _together(bulk, done, lambda keys: engine.delete_many(table, keys))

    return await bulk.run(keys, delete)


async def _together(
    bulk: Bulk[Record],
    entries: Sequence[tuple[int, str, Record | None]],
    write: Callable[[Sequence[str]], Awaitable[None]],
) -> None:
    """Write the entries in few calls, and each in its own where DynamoDB refuses the call."""

    async def alone(key: str) -> bool:
        await write([key])
        return True

    keys = list(dict.fromkeys(key for _, key, _ in entries))
    try:
        await bulk.attempt(lambda: write(keys))
    except InvalidInput:
        for position, key, record in entries:
            if await bulk.try_item(position, key, partial(alone, key)):
                bulk.finish(position, key, record)
    else:
        for position, key, record in entries:
            bulk.finish(position, key, record)
