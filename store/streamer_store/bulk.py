"""Bulk operations: a result for each item of any number of items, in bounded memory.

Items are taken in chunks, of which a few are under way at the same time. Of each chunk 25 items are
worked on at once, so that group commit (group_commit.py) sends their writes in a call.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio

from streamer_store.bulk_results import BulkResult, BulkSummary, OnResult, SomeRefused
from streamer_store.errors import (
    AlreadyExists,
    ConcurrentModification,
    InvalidInput,
    NotFound,
    RequestNotPending,
    StoreError,
    Undecodable,
    ValidationError,
    ungrouped,
)
from streamer_store.repeating import repeat
from streamer_store.unit_limiter import UnitLimiter
from streamer_store.validation import require_key

if TYPE_CHECKING:
    import random

Given = TypeVar("Given")
Record = TypeVar("Record")
Result = TypeVar("Result")
Entry = tuple[int, Given]
"""An item and its place among all items."""
Items = Iterable[Given] | AsyncIterable[Given]

CHUNK_ITEMS: Final = 100
"""The most items of a chunk. BatchGetItem takes as many."""
_CHUNK_BYTES: Final = 2 * 1024 * 1024
_CONCURRENT_CHUNKS: Final = 6
_CONCURRENT_ITEMS: Final = 25
"""Of a chunk. Group commit sends them in one call, and has 8 calls under way."""
# The errors that concern one item. Each other one ends the whole operation.
REFUSALS: Final = (
    AlreadyExists,
    ConcurrentModification,
    InvalidInput,
    NotFound,
    RequestNotPending,
    Undecodable,
)


class Bulk(Generic[Record]):
    """One bulk operation: counts the results, and hands them out."""

    def __init__(
        self,
        operation: str,
        on_result: OnResult[Record] | None,
        max_write_units: float | None,
        *,
        rng: random.Random,
    ) -> None:
        """Raises ValidationError if `max_write_units` is no rate."""
        self.operation = operation
        self.limiter = UnitLimiter("max_write_units", max_write_units)
        self._on_result = on_result
        self._rng = rng
        self._results: list[BulkResult[Record]] = []
        self._done = 0
        self._refused = 0

    async def run(
        self,
        items: Items[Given],
        work: Callable[[Sequence[Entry[Given]]], Awaitable[None]],
        *,
        size_of: Callable[[Given], int] = lambda _: 0,
    ) -> BulkSummary[Record]:
        """Call `work` with chunks of all items, a few at a time, and return the summary.

        `size_of`: returns the bytes of an item, so that a chunk has 2 MB at most. Raises what
        `work` raises; SomeRefused if there is no `on_result` and an item was refused.
        """
        if isinstance(items, str | bytes):
            raise ValidationError("items", "must be a list or an iterator, not a text")
        send, receive = anyio.create_memory_object_stream[Sequence[Entry[Given]]](0)

        async def work_on_chunks() -> None:
            async for chunk in receive:
                await work(chunk)

        with ungrouped(Exception):
            async with receive, anyio.create_task_group() as tasks:
                for _ in range(_CONCURRENT_CHUNKS):
                    tasks.start_soon(work_on_chunks)
                async with send, aclosing(_chunks(items, size_of)) as chunks:
                    async for chunk in chunks:
                        await send.send(chunk)
        return self._summary()

    async def each(
        self,
        chunk: Sequence[Entry[Given]],
        work: Callable[[int, Given], Awaitable[None]],
    ) -> None:
        """Call `work` with the place and the item of each entry, 25 at the same time.

        A task for each entry would take a fifth of the CPU.
        """
        entries = iter(chunk)

        async def work_on_entries() -> None:
            for position, item in entries:
                await work(position, item)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(_CONCURRENT_ITEMS, len(chunk))):
                tasks.start_soon(work_on_entries)

    async def attempt(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Call until DynamoDB answers (see `repeat`)."""
        return await repeat(call, rng=self._rng)

    async def try_item(
        self, position: int, key: str, call: Callable[[], Awaitable[Result]]
    ) -> Result | None:
        """Return what `call` returns. Report that the item was refused, and return None."""
        try:
            return await self.attempt(call)
        except REFUSALS as error:
            self.refuse(position, key, error)
            return None

    def valid_keys(self, field: str, chunk: Sequence[Entry[str]]) -> list[Entry[str]]:
        """Return the entries whose ids may be keys. Report that the others were refused."""
        valid = []
        for position, key in chunk:
            try:
                require_key(field, key)
            except ValidationError as error:
                self.refuse(position, "", error)
            else:
                valid.append((position, key))
        return valid

    def finish(self, position: int, key: str, record: Record | None = None) -> None:
        """Report that an item is done."""
        self._done += 1
        self._report(BulkResult(position=position, key=key, record=record))

    def refuse(self, position: int, key: str, error: StoreError) -> None:
        """Report that an item was refused."""
        self._refused += 1
        error.operation = self.operation
        error.key = error.key or key
        self._report(BulkResult(position=position, key=key, error=error))

    def _report(self, result: BulkResult[Record]) -> None:
        if self._on_result is None:
            self._results.append(result)
        else:
            self._on_result(result)

    def _summary(self) -> BulkSummary[Record]:
        results = sorted(self._results, key=lambda result: result.position)
        summary = BulkSummary(done=self._done, refused=self._refused, results=results)
        if self._refused and self._on_result is None:
            raise SomeRefused(summary, operation=self.operation)
        return summary


async def numbered(items: Items[Given]) -> AsyncGenerator[Entry[Given]]:
    """Yield the items with their places, from 0."""
    position = 0
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield position, item
            position += 1
    else:
        for item in items:
            yield position, item
            position += 1


async def _chunks(
    items: Items[Given], size_of: Callable[[Given], int]
) -> AsyncGenerator[Sequence[Entry[Given]]]:
    chunk: list[Entry[Given]] = []
    size = 0
    async with aclosing(numbered(items)) as entries:
        async for entry in entries:
            item_bytes = size_of(entry[1])
            if chunk and (len(chunk) == CHUNK_ITEMS or size + item_bytes > _CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(entry)
            size += item_bytes
    if chunk:
        yield chunk
