"""What a bulk operation returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streamer_store.errors import StoreError

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult(Generic[Record]):
    """What became of one item of a bulk operation."""

    position: int
    """The place of the item among those that were given, from 0."""
    key: str
    """The id of the item. Empty for an item that has none."""
    record: Record | None = None
    """The record as stored, by `enqueue_many` and `save_many`. None: it was refused."""
    error: StoreError | None = None
    """Why the item was refused. Nothing of it was written. None: it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkSummary(Generic[Record]):
    """What a bulk operation did."""

    done: int
    """Items that are as the operation leaves them."""
    refused: int = 0
    """Items whose result has an error."""
    results: Sequence[BulkResult[Record]] = ()
    """The result of each item, in the order of the items. Empty with an `on_result`."""

    @property
    def records(self) -> list[Record]:
        """The records as stored, in the order of the items."""
        return [result.record for result in self.results if result.record is not None]


class SomeRefused(StoreError):
    """A bulk operation without an `on_result` was over, and some of its items were refused.

    `summary`: the result of each item. The others are done.
    """

    def __init__(self, summary: BulkSummary[Any], *, operation: str = "") -> None:
        error = next(result.error for result in summary.results if result.error is not None)
        number = summary.done + summary.refused
        super().__init__(
            f"{summary.refused} of {number} items were refused; the first: {error.message}",
            operation=operation,
            table=error.table,
            key=error.key,
        )
        self.summary = summary


OnResult = Callable[[BulkResult[Record]], object]
