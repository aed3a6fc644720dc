"""Decoding of the items of one table. What cannot be decoded is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Generic, TypedDict, TypeVar

from streamer_store.errors import Undecodable, located
from streamer_store.values import Item

Report = Callable[[Undecodable], None]
Record = TypeVar("Record")


class Location(TypedDict):
    """The keyword arguments of a StoreError that say where it happened."""

    operation: str
    table: str
    key: str


class ItemDecoder(Generic[Record]):
    """Turns the items of one table into records.

    - `decode`: returns the record of an item, or raises Undecodable.
    - `table`: the full name of the table, for errors.
    - `report`: called with the error of each item that a list leaves out.
    """

    def __init__(self, decode: Callable[[Item], Record], *, table: str, report: Report) -> None:
        self._decode = decode
        self._table = table
        self._report = report

    def decode_one(self, operation: str, item: Item) -> Record:
        """Return the record. Raises Undecodable with the operation, the table and the key."""
        with self.located(operation):
            return self._decode(item)

    def decode_all(self, items: Iterable[Item]) -> list[Record]:
        """Return the records of the items that can be decoded. Report the others."""
        records = []
        for item in items:
            try:
                records.append(self._decode(item))
            except Undecodable as error:
                self.report(error)
        return records

    def report(self, error: Undecodable) -> None:
        """Report an item of this table that cannot be decoded."""
        error.table = self._table
        self._report(error)

    def located(self, operation: str) -> AbstractContextManager[None]:
        """Add the operation and the table to an Undecodable that the block raises."""
        return located(operation, self._table)

    def location(self, operation: str, key: str) -> Location:
        """Return the arguments that say where an error happened."""
        return {"operation": operation, "table": self._table, "key": key}
