"""The tests of a file share a client and its tables, which are emptied before each test.

Opening a client and creating four tables takes more CPU than most of the tests.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conftest import BACKENDS, fresh_stores
from streamer_store import Cache, Stores, Undecodable, memory_stores
from streamer_store.caching_engine import CachingEngine
from streamer_store.engine import Engine
from streamer_store.memory import MemoryEngine
from streamer_store.schema import TABLES
from streamer_store.stores import stores_over
from support import ManualClock, client_of

_BATCH = 25


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Keep the event loop of a file's tests open, because a client belongs to its loop."""
    return "asyncio"


@pytest.fixture(scope="module")
async def moto_engine(moto_url: str) -> AsyncIterator[Engine]:
    async with _engine(moto_url, batch_writes=False) as engine:
        yield engine


@pytest.fixture(scope="module")
async def local_engine(local_url: str) -> AsyncIterator[Engine]:
    async with _engine(local_url) as engine:
        yield engine


@pytest.fixture(scope="module")
async def single_engine(local_url: str) -> AsyncIterator[Engine]:
    async with _engine(local_url, batch_writes=False) as engine:
        yield engine


@pytest.fixture
async def moto_stores(
    moto_engine: Engine, clock: ManualClock, rng: random.Random, undecodable: list[Undecodable]
) -> Stores:
    await _empty(moto_engine)
    return stores_over(moto_engine, clock=clock, rng=rng, report=undecodable.append)


@pytest.fixture
async def local_stores(
    local_engine: Engine, clock: ManualClock, rng: random.Random, undecodable: list[Undecodable]
) -> Stores:
    """Give stores with empty tables on DynamoDB Local, for what only the real engine can prove."""
    await _empty(local_engine)
    return stores_over(local_engine, clock=clock, rng=rng, report=undecodable.append)


@pytest.fixture
async def single_stores(
    single_engine: Engine, clock: ManualClock, rng: random.Random, undecodable: list[Undecodable]
) -> Stores:
    """Give stores on DynamoDB Local that send each write in a call of its own."""
    await _empty(single_engine)
    return stores_over(single_engine, clock=clock, rng=rng, report=undecodable.append)


@pytest.fixture
def cached_stores(clock: ManualClock, rng: random.Random, undecodable: list[Undecodable]) -> Stores:
    """Give stores in memory, behind a cache that holds nothing."""
    engine = CachingEngine(MemoryEngine(), cache=Cache(max_age=0), clock=clock)
    return stores_over(engine, clock=clock, rng=rng, report=undecodable.append)


@pytest.fixture(params=[*BACKENDS, "cached", pytest.param("single", marks=pytest.mark.local)])
def stores(
    request: pytest.FixtureRequest,
    clock: ManualClock,
    rng: random.Random,
    undecodable: list[Undecodable],
) -> Stores:
    """Give stores of each kind, with empty tables."""
    if request.param == "memory":
        return memory_stores(clock=clock, rng=rng, report=undecodable.append)
    opened: Stores = request.getfixturevalue(f"{request.param}_stores")
    return opened


@pytest.fixture(params=["moto", pytest.param("local", marks=pytest.mark.local)])
def url(request: pytest.FixtureRequest) -> str:
    """Give the endpoint of each kind that has real tables."""
    endpoint: str = request.getfixturevalue(f"{request.param}_url")
    return endpoint


@asynccontextmanager
async def _engine(url: str, *, batch_writes: bool = True) -> AsyncIterator[Engine]:
    opening = fresh_stores(
        url,
        clock=ManualClock(),
        rng=random.Random(7),
        undecodable=[],
        batch_writes=batch_writes,
    )
    async with opening as opened:
        yield opened.engine


async def _empty(engine: Engine) -> None:
    for table in TABLES:
        name = engine.table_name(table)
        key = {"#key": table.hash_key}
        page: dict[str, Any] = {"LastEvaluatedKey": None}
        while "LastEvaluatedKey" in page:
            start = page["LastEvaluatedKey"]
            page = await client_of(engine).scan(
                TableName=name,
                ProjectionExpression="#key",
                ExpressionAttributeNames=key,
                **({"ExclusiveStartKey": start} if start else {}),
            )
            requests = [{"DeleteRequest": {"Key": item}} for item in page["Items"]]
            for first in range(0, len(requests), _BATCH):
                batch = {name: requests[first : first + _BATCH]}
                await client_of(engine).batch_write_item(RequestItems=batch)
