"""Writes one item of an export, under a condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from streamer_store.conditions import Absent, Condition, OneOf
from streamer_store.engine import ConditionFailed, Engine, Put
from streamer_store.schema import REQUESTS, Table
from streamer_store.transfer.comparing import is_same_item
from streamer_store.transfer.results import Existing
from streamer_store.values import Item

Outcome = Literal["written", "unchanged", "replaced", "skipped", "refused"]
_ATTEMPTS: Final = 5
_MAX_COMPARED: Final = 100
"""An expression of DynamoDB has 300 operators at most. A comparison and its AND are two."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to write. `is_released`: it was PROCESSING in the export, and waits now."""

    table: Table
    item: Item
    is_released: bool

    @property
    def key(self) -> str:
        return str(self.item[self.table.hash_key]["S"])

    def is_done(self, old: Item) -> bool:
        """Return whether `old` is what an import of the same export has written.

        A released request has other times each time. Its Version shows where it comes from, since
        no other write sets this Version (VERSION-1).
        """
        if self.is_released:
            return old.get("Version") == self.item["Version"]
        return is_same_item(old, self.item)


async def write_item(
    engine: Engine, new: NewItem, old: Item | None, *, existing: Existing
) -> Outcome:
    """Write an item, and return what became of it. `old`: the item that was read, or None.

    Raises what `Engine.put` raises.
    """
    for _ in range(_ATTEMPTS):
        if old is not None:
            if new.is_done(old):
                return "unchanged"
            if existing is not Existing.REPLACE:
                return "skipped" if existing is Existing.SKIP else "refused"
        conditions = _unchanged(new, old)
        if conditions is None:
            return "refused"
        try:
            await engine.put(Put(table=new.table, item=new.item, conditions=conditions))
        except ConditionFailed as failed:
            old = failed.old
        else:
            return "written" if old is None else "replaced"
    return "refused"


def _unchanged(new: NewItem, old: Item | None) -> tuple[Condition, ...] | None:
    """Return the conditions that the item is still as it was read, or None if there are too many.

    1. There was no item.
    2. A request has a Version, which every change of its status changes.
    3. Otherwise every attribute is compared.
    """
    if old is None:
        return (Absent(new.table.hash_key),)
    version = old.get("Version")
    if new.table is REQUESTS and version is not None:
        return (OneOf("Version", (version,)),)
    added = [name for name in new.item if name not in old]
    if len(old) + len(added) > _MAX_COMPARED:
        return None
    compared = tuple(OneOf(name, (value,)) for name, value in old.items())
    return (*compared, *map(Absent, added))
