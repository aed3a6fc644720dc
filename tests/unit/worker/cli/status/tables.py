"""Tables in memory that count what is read of them, and a reader of snapshots over them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from streamer_store import (
    AsyncRequest,
    Stores,
    WorkerRow,
)
from streamer_store.engine import Page, Query, Scan
from streamer_store.memory import MemoryEngine
from streamer_store.schema import Table
from streamer_store.stores import stores_over
from streamer_worker.cli.status.reading import SnapshotReader
from streamer_worker.settings import PresenceSettings, Settings
from support import START, ManualClock
from unit.worker.cli.status.snapshots import TARGET


@dataclass
class Spy(MemoryEngine):
    """Counts the items that are read, and refuses reads."""

    refused: dict[tuple[Table, str], Exception] = field(default_factory=dict)
    items: int = 0
    calls: int = 0
    has_due_index: bool = True
    page_items: int = 4_000  # about 1 MB of small entries, as DynamoDB

    def __post_init__(self) -> None:
        super().__init__(page_items=self.page_items)

    def count(self, items: int, table: Table, value: str = "") -> None:
        for key in ((table, ""), (table, value)):
            if key in self.refused:
                raise self.refused[key]
        self.items += items
        self.calls += 1

    async def query(self, query: Query) -> Page:
        page = await super().query(query)
        self.count(page.count, query.table, query.value)
        return page

    async def scan(self, scan: Scan) -> Page:
        page = await super().scan(scan)
        self.count(len(page.items), scan.table)
        return page

    async def get_many(self, table: Table, keys: Any, *, attributes: Any = ()) -> list[Any]:
        items = await super().get_many(table, keys, attributes=attributes)
        self.count(len(items), table)
        return items

    async def has_index(self, table: Table, index: Any) -> bool:
        return self.has_due_index and await super().has_index(table, index)


@pytest.fixture
def engine() -> Spy:
    return Spy()


@pytest.fixture
def stores(engine: Spy, clock: ManualClock) -> Stores:
    return stores_over(engine, clock=clock, rng=random.Random(7))


@pytest.fixture
def reader(engine: Spy, clock: ManualClock) -> SnapshotReader:
    presence = PresenceSettings(heartbeat=0.1, lease=16.0)
    settings = Settings(presence=presence)
    return SnapshotReader(engine=engine, target=TARGET, settings=settings, clock=clock)


async def enqueue(stores: Stores, count: int = 1, **fields: Any) -> list[str]:
    fields.setdefault("action", "bill")
    return [
        (await stores.requests.enqueue(AsyncRequest(**fields))).request_id for _ in range(count)
    ]


async def register(stores: Stores, name: str = "w1", **fields: Any) -> None:
    await stores.workers.register(WorkerRow(worker_id=name, started_at=START, **fields))
