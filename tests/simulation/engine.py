"""The table as each simulated worker meets it: shared, watched, and unreliable."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from streamer_store import RequestStatus, StoreUnavailable
from streamer_store.engine import (
    ConditionFailed,
    Delete,
    Difference,
    Page,
    Put,
    Query,
    Scan,
    Update,
)
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS, WORKERS, Table
from streamer_store.values import Item
from streamer_store.writes import settle_version

Result = TypeVar("Result")
_TIME_LIMIT = 5.0
_SNAPSHOT_EVERY = 0.5


@dataclass(kw_only=True)
class Faults:
    """How often a call goes wrong, and in which way."""

    before: float = 0.0
    after: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    slow: float = 0.0
    stale: float = 0.0


@dataclass(kw_only=True)
class Journal:
    """What took effect, as an observer of the table sees it who knows nothing of conditions."""

    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    uncounted: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def note(self, writer: str, update: Update, old: Item | None) -> None:
        if update.table is WORKERS and old is None:
            self.violations.append(f"{writer} made a row of a worker by an update: {update.key}")
        if update.table is not REQUESTS or old is None:
            return
        owner, version = self.owners.get(update.key, ("", ""))
        running = old.get("Status") == {"S": RequestStatus.PROCESSING.value}
        mine = running and owner == writer
        settles = _text(update, "Version") == settle_version(version)
        match _text(update, "Status"):
            case RequestStatus.PROCESSING:
                self.owners[update.key] = (writer, update.sets["Version"]["S"])
            case None if not mine:
                self.violations.append(f"{writer} wrote progress to {update.key}, {owner} has it")
            case RequestStatus.COMPLETED if not (settles and mine):
                self.violations.append(f"{writer} completed {update.key}, {owner} has it")
            case RequestStatus.PENDING | RequestStatus.RETRYING:
                self._note_return(update, old)
                rescues = _text(update, "ErrorCode") == "WORKER_LOST"
                if running and not settles and not rescues:
                    self.violations.append(f"{writer} gave {update.key} back, {owner} has it")

    def _note_return(self, update: Update, old: Item) -> None:
        counted = update.sets.get("RetryCount")
        if counted is None or counted == old.get("RetryCount", {"N": "0"}):
            self.uncounted[update.key] = self.uncounted.get(update.key, 0) + 1


def _text(update: Update, name: str) -> str | None:
    return update.sets.get(name, {}).get("S")


class SharedTable:
    """The one table, its journal, and older pictures of it for stale reads."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.journal = Journal()
        self._pictures: list[tuple[float, dict[str, dict[str, Item]]]] = []

    def picture(self) -> None:
        """Keep the state of now, at most twice a second; the items themselves never change."""
        now = anyio.current_time()
        if not self._pictures or now - self._pictures[-1][0] >= _SNAPSHOT_EVERY:
            tables = {name: dict(rows) for name, rows in self.engine._tables.items()}
            self._pictures = [*self._pictures[-5:], (now, tables)]

    async def update(self, writer: str, update: Update) -> Item:
        self.picture()
        old = self.engine._tables[update.table.name].get(update.key)
        with anyio.CancelScope(shield=True):  # a write that was sent happens
            item = await self.engine.update(update)
        self.journal.note(writer, update, old)
        return item

    def stale(self, rng: random.Random) -> MemoryEngine:
        engine = MemoryEngine()
        if self._pictures:
            engine._tables = rng.choice(self._pictures)[1]
        return engine


class WorkerEngine:
    """One worker's way to the table. `cut`: nothing comes through; `dead`: it has crashed."""

    def __init__(
        self,
        name: str,
        shared: SharedTable,
        *,
        faults: Faults,
        rng: random.Random,
        later: TaskGroup,
    ) -> None:
        self.name = name
        self.cut = False
        self.dead = False
        self.faults = faults
        self._shared = shared
        self._inner = shared.engine
        self._rng = rng
        self._later = later

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
            self._later.start_soon(self._land, call, self._rng.uniform(0.1, 20))
            await anyio.sleep(self._rng.uniform(0, 0.1))
            raise StoreUnavailable("timed out; it lands later")
        if self._happens(faults.twice):
            self._later.start_soon(self._land, call, self._rng.uniform(0, 1))
        result = await call()
        if self.dead:
            await anyio.sleep_forever()
        if self._happens(faults.after):
            raise StoreUnavailable("the answer was lost")
        return result

    async def _land(self, call: Callable[[], Awaitable[object]], after: float) -> None:
        await anyio.sleep(after)
        with suppress(ConditionFailed):
            await call()

    def table_name(self, table: Table) -> str:
        return table.name

    async def get(self, table: Table, key: str) -> Item | None:
        return await self._call(lambda: self._inner.get(table, key))

    async def get_many(self, table: Table, keys: Sequence[str]) -> list[Item]:
        return await self._call(lambda: self._inner.get_many(table, keys))

    async def put(self, put: Put) -> None:
        await self._call(lambda: self._inner.put(put))

    async def update(self, update: Update) -> Item:
        return await self._call(lambda: self._shared.update(self.name, update))

    async def delete(self, delete: Delete) -> None:
        await self._call(lambda: self._inner.delete(delete))

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        await self._call(lambda: self._inner.delete_many(table, keys))

    async def query(self, query: Query) -> Page:
        stale = query.after is None and self._happens(self.faults.stale)
        engine = self._shared.stale(self._rng) if stale else self._inner
        return await self._call(lambda: engine.query(query))

    async def scan(self, scan: Scan) -> Page:
        return await self._call(lambda: self._inner.scan(scan))

    async def create_tables(self) -> None:
        pass

    async def check_tables(self) -> list[Difference]:
        return []
