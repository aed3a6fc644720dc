"""The write units that a write consumes, from the item before and after it (pure).

Source: DynamoDB Developer Guide, "Capacity unit consumption" and "Using Global Secondary Indexes".
"""

from __future__ import annotations

from typing import Final

from streamer_store.engine import Update
from streamer_store.schema import Index, Table
from streamer_store.values import Item, item_size

_UNIT_BYTES: Final = 1024


def write_units(table: Table, before: Item | None, after: Item | None) -> int:
    """Return the units of a write that turns `before` into `after`. None: there is no item.

    The table takes a unit for each KB of the larger of the two. An index takes none where the
    entry stays the same, and the units of both entries where their keys differ.
    """
    units = max(_units(before), _units(after))
    for index in table.indexes:
        old, new = _entry(table, index, before), _entry(table, index, after)
        if old == new:
            continue
        if old is None or new is None or _keys(index, old) == _keys(index, new):
            units += max(_units(old), _units(new))
        else:
            units += _units(old) + _units(new)
    return units


def updated(seen: Item, update: Update) -> Item:
    """Return the item after an update of `seen` that only sets and removes attributes."""
    kept = {name: value for name, value in seen.items() if name not in update.removes}
    return kept | dict(update.sets)


def _units(item: Item | None) -> int:
    return 0 if item is None else -(-item_size(item) // _UNIT_BYTES)


def _entry(table: Table, index: Index, item: Item | None) -> Item | None:
    """Return the attributes that the index projects, or None where the item is not in it."""
    if item is None or any(name not in item for name in index.key_names):
        return None
    if index.non_key_attributes is None:
        return item
    projected = {table.hash_key, *index.key_names, *index.non_key_attributes}
    return {name: value for name, value in item.items() if name in projected}


def _keys(index: Index, entry: Item) -> list[object]:
    return [entry[name] for name in index.key_names]
