"""The import: verifies an export, checks the tables, and only then writes.

Invariants:

1. Nothing is written before the whole export has been verified.
2. Every write has a condition: the item does not exist, or is still the one that was compared. So
   an import never undoes what others wrote meanwhile. There is one exception: requests go into an
   empty table by BatchWriteItem, unless workers may run. It takes a third of the time on DynamoDB
   Local. Each item is read just before. A write by others in the milliseconds between is lost.
3. An item that is equal already counts as done. So an import that was interrupted is finished by
   the same import.
4. The rows of workers come last. A worker that runs beside the import then never sees the row of a
   worker whose requests are not there yet.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup

from streamer_store.clock import Clock
from streamer_store.engine import Engine
from streamer_store.errors import AlreadyExists, ungrouped
from streamer_store.repeating import repeat
from streamer_store.schema import REQUESTS, TABLES, Table
from streamer_store.transfer.checks import (
    require_no_workers,
    require_tables,
    tables_with_items,
)
from streamer_store.transfer.manifest import Manifest
from streamer_store.transfer.reading import ExportReader
from streamer_store.transfer.releasing import released
from streamer_store.transfer.results import Existing, Imported, ImportPlan, TransferProgress
from streamer_store.transfer.target import Target
from streamer_store.transfer.verifying import Verifier
from streamer_store.transfer.writing import NewItem, write_item
from streamer_store.unit_limiter import UnitLimiter
from streamer_store.values import Item, item_size
from streamer_store.write_units import write_units

if TYPE_CHECKING:
    import random

_CHUNK_ITEMS: Final = 100
"""The most items of a BatchGetItem."""
_CHUNK_BYTES: Final = 256 * 1024
_CONCURRENT_CHUNKS: Final = 8
_SHOWN_KEYS: Final = 3
_KEPT_KEYS: Final = 100

Chunk = Sequence[NewItem]
HandleChunk = Callable[[Chunk], Awaitable[None]]


class Importer:
    """Imports one export into the tables of an engine. The parameters are those of `import_tables`.

    - `before_write`: called once, after all checks. Raises to stop the import.
    - `on_progress`: called after each few items of each step.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        target: Target,
        clock: Clock,
        rng: random.Random,
        existing: Existing,
        release_running: bool,
        with_workers: bool,
        max_write_units: float | None,
        before_write: Callable[[ImportPlan], object],
        on_progress: Callable[[TransferProgress], object],
    ) -> None:
        self._engine = engine
        self._target = target
        self._reader = ExportReader(target)
        self._existing = existing
        self._release_running = release_running
        self._with_workers = with_workers
        self._limiter = UnitLimiter("max_write_units", max_write_units)
        self._chunk_units = math.inf if max_write_units is None else max_write_units
        self._before_write = before_write
        self._on_progress = on_progress
        self._now = clock.now()
        self._rng = rng
        self._counts: Counter[str] = Counter()
        self._conflicts: list[str] = []
        self._not_empty: list[str] = []

    async def run(self) -> Imported:
        """Verify, check, and write. For the errors see `import_tables`."""
        manifest = await self._reader.manifest()
        await require_tables(self._engine, for_writes=True)
        expired = await Verifier(
            reader=self._reader,
            manifest=manifest,
            release_running=self._release_running,
            now=self._now,
            on_progress=self._on_progress,
        ).run()
        if not self._with_workers:
            await require_no_workers(self._engine, self._reader, manifest, now=self._now)
        self._not_empty = await tables_with_items(self._engine)
        if self._existing is Existing.REFUSE:
            await self._refuse_differing(manifest)
        self._before_write(self._plan(manifest, expired))
        for table in TABLES:  # workers are the last
            await self._for_each_chunk(manifest, table, "write", self._write)
        return self._result(expired)

    async def _refuse_differing(self, manifest: Manifest) -> None:
        """Raise AlreadyExists if items of the export exist and differ."""
        for table in TABLES:
            if table.name in self._not_empty:
                await self._for_each_chunk(manifest, table, "compare", self._compare)
        count = self._counts["differing"]
        if count:
            shown = ", ".join(self._conflicts[:_SHOWN_KEYS])
            more = ", …" if count > _SHOWN_KEYS else ""
            raise AlreadyExists(
                f"items of the export exist and differ: {count} ({shown}{more}). Nothing was"
                " written: --existing=skip keeps them, --existing=replace overwrites them"
            )

    async def _compare(self, chunk: Chunk) -> None:
        stored = await self._stored(chunk)
        for new in chunk:
            old = stored.get(new.key)
            if old is not None and not new.is_done(old):
                self._note("differing", new)

    async def _write(self, chunk: Chunk) -> None:
        table = chunk[0].table
        if self._chunk_units < math.inf:
            await self._limiter.spend(sum(write_units(table, None, new.item) for new in chunk))
        is_empty = table.name not in self._not_empty
        is_bulk = is_empty and table is REQUESTS and not self._with_workers
        stored = {} if is_empty and not is_bulk else await self._stored(chunk)
        if is_bulk:
            await self._write_bulk([new for new in chunk if new.key not in stored])
            chunk = [new for new in chunk if new.key in stored]
        async with anyio.create_task_group() as tasks:
            for new in chunk:
                tasks.start_soon(self._write_one, new, stored.get(new.key))

    async def _write_bulk(self, chunk: Chunk) -> None:
        """Write items that do not exist, without conditions."""
        if chunk:
            table, items = chunk[0].table, [new.item for new in chunk]
            await repeat(lambda: self._engine.put_many(table, items), rng=self._rng)
        self._counts["written"] += len(chunk)
        self._counts["released"] += sum(new.is_released for new in chunk)

    async def _write_one(self, new: NewItem, old: Item | None) -> None:
        outcome = await repeat(
            lambda: write_item(self._engine, new, old, existing=self._existing), rng=self._rng
        )
        if outcome == "refused":
            self._note(outcome, new)
            return
        self._counts[outcome] += 1
        if new.is_released and outcome in {"written", "replaced"}:
            self._counts["released"] += 1

    async def _stored(self, chunk: Chunk) -> dict[str, Item]:
        """Return the items with the ids of a chunk that exist, by id."""
        table = chunk[0].table
        keys = [new.key for new in chunk]
        items = await repeat(lambda: self._engine.get_many(table, keys), rng=self._rng)
        return {item[table.hash_key]["S"]: item for item in items}

    async def _for_each_chunk(
        self, manifest: Manifest, table: Table, step: str, handle: HandleChunk
    ) -> None:
        """Call `handle` with all items of a table, for a few chunks at a time."""
        total = manifest.items.get(table.name, 0)
        done = 0
        free = anyio.Semaphore(_CONCURRENT_CHUNKS)

        async def handle_one(chunk: Chunk) -> None:
            nonlocal done
            try:
                await handle(chunk)
            finally:
                free.release()
            done += len(chunk)
            self._on_progress(
                TransferProgress(step=step, table=table.name, items=done, total=total)
            )

        async def start_all(tasks: TaskGroup) -> None:
            async with aclosing(self._chunks(manifest, table)) as chunks:
                async for chunk in chunks:
                    await free.acquire()
                    tasks.start_soon(handle_one, chunk)

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                await start_all(tasks)

    async def _chunks(self, manifest: Manifest, table: Table) -> AsyncGenerator[Chunk]:
        is_full = _Limits(table, self._chunk_units).is_full
        for part in manifest.parts.get(table.name, ()):
            async with aclosing(self._reader.chunks(part, table, is_full=is_full)) as chunks:
                async for _, items in chunks:
                    yield [self._new_item(manifest, table, item) for item in items]

    def _new_item(self, manifest: Manifest, table: Table, item: Item) -> NewItem:
        if self._release_running:
            waiting = released(item, export_id=manifest.id, now=self._now)
            if waiting is not None:
                return NewItem(table, waiting, is_released=True)
        return NewItem(table, item, is_released=False)

    def _note(self, outcome: str, new: NewItem) -> None:
        self._counts[outcome] += 1
        if len(self._conflicts) < _KEPT_KEYS:
            self._conflicts.append(f"{self._engine.table_name(new.table)}/{new.key}")

    def _plan(self, manifest: Manifest, expired: int) -> ImportPlan:
        not_empty = [table for table in TABLES if table.name in self._not_empty]
        return ImportPlan(
            target=str(self._target),
            items=manifest.items,
            not_empty=tuple(map(self._engine.table_name, not_empty)),
            expired=expired,
        )

    def _result(self, expired: int) -> Imported:
        return Imported(
            target=str(self._target),
            written=self._counts["written"],
            unchanged=self._counts["unchanged"],
            replaced=self._counts["replaced"],
            skipped=self._counts["skipped"],
            refused=self._counts["refused"],
            refused_keys=tuple(self._conflicts),
            released=self._counts["released"],
            expired=expired,
        )


class _Limits:
    """Whether a chunk that grows item by item is full. Called once for each item."""

    def __init__(self, table: Table, most_units: float) -> None:
        self._table = table
        self._most_units = most_units
        self._bytes = 0
        self._units = 0

    def is_full(self, items: list[Item]) -> bool:
        if len(items) == 1:
            self._bytes = self._units = 0
        self._bytes += item_size(items[-1])
        if self._most_units < math.inf:
            self._units += write_units(self._table, None, items[-1])
        return (
            len(items) >= _CHUNK_ITEMS
            or self._bytes >= _CHUNK_BYTES
            or self._units >= self._most_units
        )
