"""The engine of a simulated worker: it calls the shared table, and makes calls fail."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from other_writers import old_put, old_update
from simulation.journal import Journal
from simulation.key_journal import KeyJournal
from simulation.pausing import WORKER
from simulation.schedule import Faults
from streamer_store import RequestStatus, StoreUnavailable
from streamer_store.engine import (
    ConditionFailed,
    Delete,
    Difference,
    Page,
    Put,
    Query,
    Refusal,
    Scan,
    TransactionFailed,
    TransactionPart,
    Update,
    Write,
)
from streamer_store.memory import MemoryEngine
from streamer_store.schema import WORKERS, Index, Table
from streamer_store.values import Item
from unit.worker.harness import LoopClock

Result = TypeVar("Result")
_TIME_LIMIT = 5.0
_SNAPSHOT_EVERY = 0.5


class WatchedEngine(MemoryEngine):
    """Remembers the item that the last write replaced."""

    old_item: Item | None = None

    def _store(self, table: Table, key: str, item: Item) -> None:
        self.old_item = self._rows(table).get(key)
        super()._store(table, key, item)


class SharedTable:
    """The shared tables, their journal, and earlier snapshots of them for stale reads."""

    def __init__(self, *, due_index: bool) -> None:
        self.engine = WatchedEngine()
        self.engine.missing_indexes = set() if due_index else {"DueIndex"}
        self.journal = Journal()
        self.keys = KeyJournal(now=LoopClock().now)
        self._snapshots: list[tuple[float, dict[str, dict[str, Item]]]] = []

    async def put(self, writer: str, put: Put) -> None:
        with anyio.CancelScope(shield=True):  # A write that was sent takes effect.
            await self.engine.put(put)
        self.keys.note_put(put, self.engine.old_item)
        self.journal.note_put(writer, put, anyio.current_time())

    async def update(self, writer: str, update: Update) -> Item:
        self._take_snapshot()
        with anyio.CancelScope(shield=True):
            item = await self.engine.update(update)
        self.journal.note_update(writer, update, self.engine.old_item, anyio.current_time())
        return item

    async def delete(self, writer: str, delete: Delete) -> None:
        with anyio.CancelScope(shield=True):
            await self.engine.delete(delete)
        if delete.table is WORKERS:
            self.journal.note_delete(writer, delete.key, anyio.current_time())

    def stale(self, rng: random.Random) -> MemoryEngine:
        """Return the tables as they were some time ago."""
        engine = MemoryEngine()
        engine.missing_indexes = self.engine.missing_indexes
        if self._snapshots:
            engine._tables = rng.choice(self._snapshots)[1]
        return engine

    def _take_snapshot(self) -> None:
        """Keep the current state, at most twice a second. Stored items are never modified."""
        now = anyio.current_time()
        if not self._snapshots or now - self._snapshots[-1][0] >= _SNAPSHOT_EVERY:
            tables = {name: dict(rows) for name, rows in self.engine._tables.items()}
            self._snapshots = [*self._snapshots[-5:], (now, tables)]


class WorkerEngine:
    """The engine of one worker.

    - `cut`: every call times out.
    - `dead`: the worker has crashed. Its calls never return.
    - `disturbed`: the start and end of each time in which it was paused or cut off.
    - `cpu`: the CPU time of the worker, in seconds.
    - `old`: the worker's release does not know lanes, SCHEDULED and priorities.
    """

    def __init__(
        self,
        name: str,
        shared: SharedTable,
        *,
        faults: Faults,
        rng: random.Random,
        background: TaskGroup,
        old: bool = False,
    ) -> None:
        self.name = name
        self.cut = False
        self.dead = False
        self.cpu = 0.0
        self.disturbed: list[tuple[float, float]] = []
        self.faults = faults
        self._shared = shared
        self._inner = shared.engine
        self._rng = rng
        self._background = background
        self._old = old

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._rng.random() < chance

    async def _call(self, call: Callable[[], Awaitable[Result]]) -> Result:
        faults = self.faults
        if self.dead:
            await anyio.sleep_forever()
        if self._happens(faults.slow):
            await anyio.sleep(self._rng.uniform(0, 3))
        if self.cut:
            await anyio.sleep(_TIME_LIMIT)
            raise StoreUnavailable("cut off")
        if self._happens(faults.before):
            await anyio.lowlevel.checkpoint()
            raise StoreUnavailable("refused")
        if self._happens(faults.late):
            self._send_copy(call, self._rng.uniform(0.1, 20))
            await anyio.sleep(self._rng.uniform(0, 0.1))
            raise StoreUnavailable("timed out, and takes effect later")
        if self._happens(faults.twice):
            self._send_copy(call, self._rng.uniform(0, 1))
        result = await call()
        if self.dead:
            await anyio.sleep_forever()
        if self._happens(faults.after):
            raise StoreUnavailable("the answer was lost")
        return result

    def _send_copy(self, call: Callable[[], Awaitable[object]], delay: float) -> None:
        """Let a copy of the call take effect after `delay` seconds, even if the worker crashes."""
        token = WORKER.set("")
        self._background.start_soon(self._call_later, call, delay)
        WORKER.reset(token)

    async def _call_later(self, call: Callable[[], Awaitable[object]], delay: float) -> None:
        await anyio.sleep(delay)
        with suppress(ConditionFailed, TransactionFailed):
            await call()

    def table_name(self, table: Table) -> str:
        return table.name

    async def get(self, table: Table, key: str) -> Item | None:
        return await self._call(lambda: self._inner.get(table, key))

    async def get_many(
        self, table: Table, keys: Sequence[str], *, attributes: tuple[str, ...] = ()
    ) -> list[Item]:
        return await self._call(lambda: self._inner.get_many(table, keys, attributes=attributes))

    async def put(self, put: Put) -> None:
        put = old_put(put) if self._old else put
        await self._call(lambda: self._shared.put(self.name, put))

    async def update(self, update: Update) -> Item:
        update = old_update(update) if self._old else update
        return await self._call(lambda: self._shared.update(self.name, update))

    async def write_many(self, writes: Sequence[Write]) -> list[Item | Refusal]:
        return await self._call(lambda: self._write_each(writes))

    async def _write_each(self, writes: Sequence[Write]) -> list[Item | Refusal]:
        return [
            Refusal.THROTTLED
            if self._happens(self.faults.before)
            else await self._write_in_batch(write)
            for write in writes
        ]

    async def _write_in_batch(self, write: Write) -> Item | Refusal:
        try:
            match write:
                case Update():
                    return await self._shared.update(self.name, write)
                case Put():
                    await self._shared.put(self.name, write)
                case Delete():
                    await self._shared.delete(self.name, write)
        except ConditionFailed:
            return Refusal.CONDITION_FAILED
        return {}

    async def delete(self, delete: Delete) -> None:
        await self._call(lambda: self._shared.delete(self.name, delete))

    async def put_many(self, table: Table, items: Sequence[Item]) -> None:
        await self._call(lambda: self._inner.put_many(table, items))

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        await self._call(lambda: self._inner.delete_many(table, keys))

    async def transact(self, parts: Sequence[TransactionPart]) -> None:
        await self._call(lambda: self._inner.transact(parts))

    async def query(self, query: Query) -> Page:
        if self._old and query.value == RequestStatus.SCHEDULED:
            return Page(())
        stale = query.exclusive_start_key is None and self._happens(self.faults.stale)
        engine = self._shared.stale(self._rng) if stale else self._inner
        return await self._call(lambda: engine.query(query))

    async def scan(self, scan: Scan) -> Page:
        return await self._call(lambda: self._inner.scan(scan))

    async def has_index(self, table: Table, index: Index) -> bool:
        return not self._old and await self._call(lambda: self._inner.has_index(table, index))

    async def create_tables(self) -> None:
        pass

    async def check_tables(self) -> list[Difference]:
        return []

    async def account(self) -> str | None:
        return None
