"""Capacity units of scans and of whole items (pure).

Sources: DynamoDB Developer Guide, "DynamoDB read and write operations" and "Using global secondary
indexes". A unit reads 4 KB consistently, or writes 1 KB of a table or of an index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamer_store.schema import Table
from streamer_store.values import Item, item_size

_READ_BYTES: Final = 4096
_WRITE_BYTES: Final = 1024


def scan_units(items: Iterable[Item]) -> int:
    """Return the read units of a page of a consistent scan."""
    return _units(sum(map(item_size, items)), _READ_BYTES)


def put_units(table: Table, item: Item) -> int:
    """Return the write units of a new item, in its table and in all its indexes."""
    units = _units(item_size(item), _WRITE_BYTES)
    for index in table.indexes:
        keys = [table.hash_key, index.hash_key, *filter(None, [index.range_key])]
        if all(key in item for key in keys):
            projected = item
            if index.non_key_attributes is not None:
                names = {*keys, *index.non_key_attributes}
                projected = {name: value for name, value in item.items() if name in names}
            units += _units(item_size(projected), _WRITE_BYTES)
    return units


def _units(size: int, per_unit: int) -> int:
    return max(1, -(-size // per_unit))
