"""Stores on tables that have no prefix in common, and new tables for readers of an index alone."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contract.table_changes import opened, own_dynamodb_local, without_due_index
from streamer_store import (
    AsyncRequest,
    EventType,
    InvalidInput,
    NotFound,
    RequestStatus,
    Stores,
    TableNames,
    TransferProgress,
    WorkerRow,
    export_tables,
    import_tables,
)
from streamer_store.clock import SystemClock
from streamer_store.dynamo import tables
from streamer_store.dynamo.connecting import open_checked_client
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS, TABLES
from streamer_store.stores import stores_over
from streamer_store.transfer.manifest import read_manifest
from support import connection, unique_prefix, unrelated_names
from transfers import all_items, checksum, fill

pytestmark = pytest.mark.anyio
local_url = pytest.fixture(scope="module")(own_dynamodb_local)
KINDS = ["memory", "moto", pytest.param("local", marks=pytest.mark.local)]


@pytest.fixture(params=KINDS)
async def named(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    """Give stores on four tables without a prefix in common."""
    names = unrelated_names()
    if request.param == "memory":
        engine = MemoryEngine(names=TableNames.from_prefix("", names))
        yield stores_over(engine, clock=SystemClock(), rng=random.Random(7))
        return
    url: str = request.getfixturevalue(f"{request.param}_url")
    async with opened(url, "", table_names=names) as (stores, _):
        await stores.create_tables()
        yield stores


async def _work(stores: Stores) -> None:
    """Write to each table in each way: single, in a transaction, in batches, and in bulk."""
    now = datetime.now(UTC)
    await stores.connections.save(connection("c1", connected_at=now, last_ping=now))
    await stores.workers.register(WorkerRow(worker_id="w1", started_at=now))
    requests = [
        AsyncRequest(action="a", request_id=f"r{number}", connection_id="c1", payload={"n": number})
        for number in range(3)
    ]
    await stores.requests.enqueue_all(requests)
    await stores.subscriptions.subscribe("c1", "r1", [EventType.COMPLETE])
    for claim in await stores.requests.dequeue(2):
        await stores.requests.complete(claim, {"done": True})


async def test_all_works_on_tables_without_a_common_prefix(named: Stores) -> None:
    """Each engine names the tables in full in its errors."""
    await _work(named)
    assert await named.check_tables() == []
    done = [each async for each in named.requests.get_by_status(RequestStatus.COMPLETED)]
    assert [each.result for each in done] == [{"done": True}] * 2
    of_connection = [each async for each in named.requests.get_by_connection("c1")]
    assert {each.request_id for each in of_connection} == {"r0", "r1", "r2"}
    assert len(await named.connections.list_by_user("u")) == 1
    assert len(await named.subscriptions.get_by_request("r1")) == 1
    assert [row.worker_id for row in await named.workers.list()] == ["w1"]
    with pytest.raises(NotFound) as caught:
        await named.requests.get("nobody")
    assert caught.value.table == named.engine.table_name(REQUESTS)
    assert caught.value.table.startswith("jobs-")


async def test_they_are_exported_and_imported_elsewhere(named: Stores, tmp_path: Path) -> None:
    """The manifest has the names. Earlier releases need its prefix, which is empty."""
    await fill(named, 20)
    await export_tables(named, tmp_path / "e")
    data = (tmp_path / "e" / "manifest.json").read_bytes()
    assert list(read_manifest(data).names) == list(map(named.engine.table_name, TABLES))
    assert json.loads(data)["prefix"] == ""
    others = stores_over(MemoryEngine(), clock=SystemClock(), rng=random.Random(7))
    await import_tables(others, tmp_path / "e")
    assert checksum(await all_items(others)) == checksum(await all_items(named))


class _Stop(BaseException):
    """Ends an export."""


async def test_other_names_do_not_continue_an_export(named: Stores, tmp_path: Path) -> None:
    """The error has the names of both. The same names continue it."""
    await fill(named, 20)

    def stop(progress: TransferProgress) -> None:
        if progress.table == "subscriptions":
            raise _Stop

    with pytest.raises(_Stop):
        await export_tables(named, tmp_path / "e", on_progress=stop, part_bytes=1)
    others = stores_over(MemoryEngine(), clock=SystemClock(), rng=random.Random(7))
    with pytest.raises(InvalidInput) as caught:
        await export_tables(others, tmp_path / "e")
    assert f", {named.engine.table_name(REQUESTS)}, " in caught.value.message
    assert "and these are streamer_…: choose another target" in caught.value.message
    assert (await export_tables(named, tmp_path / "e")).resumed


async def _created(url: str, names: TableNames, *, full: bool = True) -> tables.Changes:
    async with open_checked_client(endpoint_url=url, region=None) as calls:
        return await tables.create(calls, names, full_projection=full)


async def _read_as_go(client: Any, name: str, index: str, **key: str) -> list[dict[str, Any]]:
    """Query the index alone, as `GetByConnection` and `GetByStatus` of the Go store do."""
    ((attribute, value),) = key.items()
    answer = await client.query(
        TableName=name,
        IndexName=index,
        KeyConditionExpression="#key = :value",
        ExpressionAttributeNames={"#key": attribute},
        ExpressionAttributeValues={":value": {"S": value}},
    )
    return list(answer["Items"])


async def test_new_tables_can_have_indexes_with_all_attributes(url: str) -> None:
    """A Go reader then gets the payload from the index. DueIndex, which it does not know, is slim.

    Our stores work on such tables, and `check_tables` warns of the cost.
    """
    prefix = unique_prefix()
    async with opened(url, prefix) as (stores, client):
        changes = await _created(url, TableNames.from_prefix(prefix))
        assert (len(changes.created), changes.slim_indexes) == (4, [])
        warnings = sorted((each.blocking, each.text) for each in await stores.check_tables())
        assert [(blocking, text.split(":")[0]) for blocking, text in warnings] == [
            (False, "index ConnectionIndex"),
            (False, "index StatusIndex"),
        ]
        assert all("every progress write also writes to the index" in text for _, text in warnings)
        await _work(stores)
        name = f"{prefix}requests"
        for index, key in (
            ("ConnectionIndex", {"ConnectionID": "c1"}),
            ("StatusIndex", {"Status": "PENDING"}),
        ):
            items = await _read_as_go(client, name, index, **key)
            assert items
            assert all("Payload" in item for item in items)
        assert [each async for each in stores.requests.get_by_status(RequestStatus.PENDING)]
        # One description has the projections of all indexes.
        described = (await client.describe_table(TableName=name))["Table"]["GlobalSecondaryIndexes"]
        projections = {
            each["IndexName"]: each["Projection"]["ProjectionType"] for each in described
        }
        assert projections == {
            "ConnectionIndex": "ALL",
            "StatusIndex": "ALL",
            "DueIndex": "INCLUDE",
        }


async def test_the_indexes_of_existing_tables_stay_as_they_are(url: str) -> None:
    """They are named, as a Go reader would get no payload from them. DueIndex is added."""
    prefix = unique_prefix()
    name = f"{prefix}requests"
    async with opened(url, prefix) as (stores, client):
        await stores.create_tables()
        await without_due_index(client, name)
        changes = await _created(url, TableNames.from_prefix(prefix))
        assert (changes.created, changes.indexed) == ([], [name])
        assert changes.slim_indexes == [f"ConnectionIndex of {name}", f"StatusIndex of {name}"]
        assert await stores.check_tables() == []
        await _work(stores)
        (item,) = await _read_as_go(client, name, "StatusIndex", Status="PENDING")
        assert "Payload" not in item
        assert (await _created(url, TableNames.from_prefix(prefix), full=False)).slim_indexes == []
