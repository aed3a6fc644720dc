"""The four stores over one engine."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from streamer_store.clock import Clock, SystemClock
from streamer_store.connections import ConnectionTable
from streamer_store.engine import Difference, Engine
from streamer_store.errors import Undecodable
from streamer_store.memory import MemoryEngine
from streamer_store.protocols import (
    ConnectionStore,
    RequestQueue,
    SubscriptionStore,
    WorkerRegistry,
)
from streamer_store.requests import RequestStore
from streamer_store.subscriptions import SubscriptionTable
from streamer_store.workers import WorkerTable

Report = Callable[[Undecodable], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    connections: ConnectionStore
    requests: RequestQueue
    subscriptions: SubscriptionStore
    workers: WorkerRegistry
    engine: Engine

    async def create_tables(self) -> None:
        """Make the tables that are missing and wait until they can be used."""
        await self.engine.create_tables()

    async def check_tables(self) -> list[Difference]:
        """Return every difference from what is expected; none when all is well."""
        return await self.engine.check_tables()


def log_undecodable(error: Undecodable) -> None:
    structlog.get_logger("streamer_store").warning(
        "undecodable_item", table=error.table, key=error.key, reason=error.reason
    )


def stores_over(
    engine: Engine, *, clock: Clock, rng: random.Random, report: Report = log_undecodable
) -> Stores:
    """Build the stores. `report` hears of each item that cannot be decoded."""
    subscriptions = SubscriptionTable(engine=engine, clock=clock, report=report)
    workers = WorkerTable(engine=engine, clock=clock, report=report)
    return Stores(
        connections=ConnectionTable(
            engine=engine, subscriptions=subscriptions, clock=clock, report=report
        ),
        requests=RequestStore(engine=engine, workers=workers, clock=clock, rng=rng, report=report),
        subscriptions=subscriptions,
        workers=workers,
        engine=engine,
    )


def memory_stores(
    *,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    report: Report = log_undecodable,
) -> Stores:
    """Build the stores in memory, for tests."""
    return stores_over(
        MemoryEngine(),
        clock=clock or SystemClock(),
        rng=rng or random.SystemRandom(),
        report=report,
    )
