"""Tables of earlier releases lack DueIndex. They work, and `create_tables` adds it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from contract.table_changes import (
    opened,
    own_dynamodb_local,
    with_projection,
    without_due_index,
)
from streamer_store import AsyncRequest, Lane, Stores, SystemClock
from streamer_store.schema import REQUESTS, TABLES
from streamer_store.stores import stores_over
from support import unique_prefix

if TYPE_CHECKING:
    import random
from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
DUE_INDEX = REQUESTS.index("DueIndex")


local_url = pytest.fixture(scope="module")(own_dynamodb_local)


@pytest.fixture
async def old(url: str) -> AsyncIterator[tuple[Stores, Any, str]]:
    """Give the tables of a release without DueIndex, the client, and the table's name."""
    async with opened(url, unique_prefix()) as (stores, client):
        await stores.create_tables()
        name = stores.engine.table_name(REQUESTS)
        await without_due_index(client, name)
        yield stores, client, name


async def _retrying(stores: Stores, request_id: str) -> None:
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id=request_id))
    (claim,) = await stores.requests.dequeue(1)
    await stores.requests.retry(claim, timedelta())


async def _due(stores: Stores) -> list[str] | None:
    page = await stores.requests.due_entries(Lane.DUE, until=SystemClock().now(), limit=10)
    return None if page is None else [entry.request_id for entry in page.candidates]


async def test_a_table_without_the_index_is_reported_and_works(
    old: tuple[Stores, Any, str],
) -> None:
    """The difference is not blocking, and `due_entries` returns None."""
    stores, _, name = old
    differences = [d for d in await stores.check_tables() if "DueIndex" in d.text]
    assert [(d.blocking, d.creatable, d.table) for d in differences] == [(False, True, name)]
    assert "`streamer-worker tables create` adds it, key DueLane (HASH)" in differences[0].text
    assert "every poll reads all requests that wait for later" in differences[0].text
    await _retrying(stores, "r1")
    assert await _due(stores) is None
    assert (
        await stores.requests.lane_depths(Lane.DUE, now=SystemClock().now(), later=False, limit=5)
        is None
    )
    (claim,) = await stores.requests.dequeue(1)
    await stores.requests.complete(claim, {})


async def test_create_tables_adds_the_index_with_all_that_waits(
    old: tuple[Stores, Any, str],
) -> None:
    """Lanes are written before there is an index, so it has them once it is built."""
    stores, client, name = old
    await _retrying(stores, "r1")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):  # several processes at once
            tasks.start_soon(stores.create_tables)
    assert await stores.check_tables() == []
    assert await stores.engine.has_index(REQUESTS, DUE_INDEX)
    # These have asked for the index within the last 5 minutes.
    fresh = stores_over(stores.engine, clock=SystemClock(), rng=random.Random(7))
    assert await _due(fresh) == ["r1"]
    description = (await client.describe_table(TableName=name))["Table"]
    assert len(description["GlobalSecondaryIndexes"]) == len(REQUESTS.indexes)
    await stores.create_tables()


async def test_the_index_of_a_table_with_provisioned_capacity_gets_as_much(
    old: tuple[Stores, Any, str],
) -> None:
    stores, client, name = old
    units = {"ReadCapacityUnits": 7, "WriteCapacityUnits": 9}
    description = (await client.describe_table(TableName=name))["Table"]
    await client.delete_table(TableName=name)
    await client.create_table(
        TableName=name,
        KeySchema=description["KeySchema"],
        AttributeDefinitions=description["AttributeDefinitions"],
        ProvisionedThroughput=units,
        GlobalSecondaryIndexes=[
            {key: index[key] for key in ("IndexName", "KeySchema", "Projection")}
            | {"ProvisionedThroughput": units}
            for index in description["GlobalSecondaryIndexes"]
        ],
    )
    await stores.create_tables()
    description = (await client.describe_table(TableName=name))["Table"]
    (added,) = [
        index for index in description["GlobalSecondaryIndexes"] if index["IndexName"] == "DueIndex"
    ]
    assert added["ProvisionedThroughput"].items() >= units.items()


@pytest.mark.parametrize(
    ("projection", "usable"),
    [
        ({"ProjectionType": "ALL"}, True),
        ({"ProjectionType": "KEYS_ONLY"}, False),
        ({"ProjectionType": "INCLUDE", "NonKeyAttributes": ["Status", "Version"]}, False),
    ],
    ids=["all", "keys", "few"],
)
async def test_an_index_that_lacks_attributes_is_not_read(
    url: str, projection: dict[str, Any], *, usable: bool
) -> None:
    """`check_tables` says so, and it is not blocking. `create_tables` does not change it."""
    async with opened(url, unique_prefix()) as (stores, client):
        await stores.create_tables()
        name = stores.engine.table_name(REQUESTS)
        await with_projection(client, name, "DueIndex", projection)
        assert await stores.engine.has_index(REQUESTS, DUE_INDEX) is usable
        assert (await _due(stores) is not None) is usable
        differences = [d for d in await stores.check_tables() if "DueIndex" in d.text]
        assert not any(d.blocking or d.creatable for d in differences)
        assert differences
        await stores.create_tables()
        assert await stores.engine.has_index(REQUESTS, DUE_INDEX) is usable


async def test_there_is_no_index_without_the_table(url: str) -> None:
    async with opened(url, unique_prefix()) as (stores, _):
        assert not await stores.engine.has_index(TABLES[1], DUE_INDEX)
