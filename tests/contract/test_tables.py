"""Creating the tables, and reporting how they differ from the schema."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from contract.table_changes import opened, remake, with_projection
from streamer_store import AsyncRequest, RequestStatus, Stores
from support import unique_prefix

pytestmark = pytest.mark.anyio


async def _report(stores: Stores, *, blocking: bool) -> list[str]:
    return [
        str(difference)
        for difference in await stores.check_tables()
        if difference.blocking is blocking
    ]


async def test_creating_tables_again_changes_nothing(url: str) -> None:
    """`check_tables` returns nothing afterwards."""
    async with opened(url, "once_") as (stores, client):
        await stores.create_tables()
        await stores.create_tables()
        assert await stores.check_tables() == []
        description = (await client.describe_table(TableName="once_requests"))["Table"]
        assert description["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


async def test_tables_can_be_created_by_several_processes_at_once(url: str) -> None:
    """A table or TTL that another process has just created is no error."""
    async with opened(url, unique_prefix()) as (stores, _):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(stores.create_tables)
        assert await stores.check_tables() == []


async def test_missing_tables_are_reported(url: str) -> None:
    """Each is reported by its name, with the command that creates it."""
    async with opened(url, "none_") as (stores, _):
        report = await _report(stores, blocking=True)
        assert [text.split()[1] for text in report] == [
            "none_connections:",
            "none_requests:",
            "none_subscriptions:",
            "none_workers:",
        ]
        assert all("tables create" in text for text in report)


async def test_a_missing_index_is_reported(url: str) -> None:
    """It is blocking: the worker cannot work without it."""
    async with opened(url, "index_") as (stores, client):
        await stores.create_tables()
        attributes = [{"AttributeName": "RequestID", "AttributeType": "S"}]
        await remake(
            client, "index_requests", GlobalSecondaryIndexes=None, AttributeDefinitions=attributes
        )
        by_connection, by_status = await _report(stores, blocking=True)
        start = (
            "table index_requests: index ConnectionIndex is missing; `tables create` does not add"
        )
        assert by_connection.startswith(start)
        assert by_connection.endswith(
            "key ConnectionID (HASH), CreatedAt (RANGE), projection KEYS_ONLY"
        )
        assert "index StatusIndex is missing; " in by_status
        assert "key Status (HASH), CreatedAt (RANGE), projection INCLUDE Action," in by_status


async def test_a_projection_that_lacks_attributes_is_reported(url: str) -> None:
    """The report names the attributes that are missing or expected."""
    async with opened(url, "slim_") as (stores, client):
        await stores.create_tables()
        slim = {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["Action", "Version", "WorkerID"]}
        await with_projection(client, "slim_requests", "StatusIndex", slim)
        keys = {"ProjectionType": "KEYS_ONLY"}
        await with_projection(client, "slim_connections", "UserIndex", keys)
        by_user, by_status = await _report(stores, blocking=True)
        start = "table slim_connections: index UserIndex: projection is KEYS_ONLY, expected ALL; "
        assert by_user.startswith(start)
        start = "table slim_requests: index StatusIndex: projection lacks RetryAfter, TenantID; "
        assert by_status.startswith(start)
        assert "cannot be changed in place: delete it with UpdateTable" in by_status


async def test_tables_with_projection_all_work_and_warn(url: str) -> None:
    """Requests run on such tables, and `check_tables` says what the projection costs."""
    async with opened(url, "all_") as (stores, client):
        await stores.create_tables()
        await with_projection(client, "all_requests", "StatusIndex", {"ProjectionType": "ALL"})
        assert await _report(stores, blocking=True) == []
        (ttl_or_cost, *_) = [t for t in await _report(stores, blocking=False) if "StatusIndex" in t]
        assert "projection is ALL, expected INCLUDE" in ttl_or_cost
        await stores.requests.enqueue(AsyncRequest(action="echo", payload={"n": 1}))
        (claim,) = await stores.requests.dequeue(1)
        assert claim.request.payload == {"n": 1}
        await stores.requests.complete(claim, {})
        done = stores.requests.get_by_status(RequestStatus.COMPLETED)
        assert [request.request_id async for request in done] == [claim.request_id]


async def test_additional_attributes_and_indexes_are_reported(url: str) -> None:
    """They cost money but are not blocking."""
    async with opened(url, "more_") as (stores, client):
        await stores.create_tables()
        more = {
            "ProjectionType": "INCLUDE",
            "NonKeyAttributes": [
                *("Action", "TenantID", "RetryAfter", "WorkerID", "Version"),
                "Progress",
            ],
        }
        await with_projection(client, "more_requests", "StatusIndex", more)
        index = {
            "IndexName": "HostIndex",
            "KeySchema": [{"AttributeName": "Host", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        attributes = [
            {"AttributeName": "WorkerID", "AttributeType": "S"},
            {"AttributeName": "Host", "AttributeType": "S"},
        ]
        await remake(
            client,
            "more_workers",
            GlobalSecondaryIndexes=[index],
            AttributeDefinitions=attributes,
        )
        assert await _report(stores, blocking=True) == []
        report = " ".join(await _report(stores, blocking=False))
        assert "index StatusIndex: projection has attributes that are not used: Progress" in report
        assert "index HostIndex is not used by the worker" in report


async def test_wrong_keys_are_reported(url: str) -> None:
    """The report has both the attributes and their types."""
    async with opened(url, "key_") as (stores, client):
        await stores.create_tables()
        await remake(
            client,
            "key_workers",
            KeySchema=[{"AttributeName": "Host", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "Host", "AttributeType": "S"}],
        )
        description = (await client.describe_table(TableName="key_subscriptions"))["Table"]
        types = [
            definition | {"AttributeType": "N"}
            if definition["AttributeName"] == "RequestID"
            else definition
            for definition in description["AttributeDefinitions"]
        ]
        await remake(client, "key_subscriptions", AttributeDefinitions=types)
        of_index, of_table = await _report(stores, blocking=True)
        start = "table key_subscriptions: index RequestIndex: key attribute RequestID has type N"
        assert of_index.startswith(start)
        assert "cannot be changed in place" in of_index
        start = "table key_workers: key is Host (HASH), expected WorkerID (HASH); "
        assert of_table.startswith(start)
        assert "cannot be changed in place: choose another table prefix" in of_table


async def test_ttl_that_is_off_or_on_another_attribute_is_reported(url: str) -> None:
    """Old items would not be deleted, but it is not blocking."""
    async with opened(url, "ttl_") as (stores, client):
        await stores.create_tables()
        await remake(client, "ttl_workers")
        await remake(client, "ttl_requests")
        elsewhere = {"Enabled": True, "AttributeName": "Expires"}
        await client.update_time_to_live(
            TableName="ttl_requests", TimeToLiveSpecification=elsewhere
        )
        assert await _report(stores, blocking=True) == []
        report = await _report(stores, blocking=False)
        assert any("ttl_requests" in text and "Expires" in text for text in report)
        assert any("ttl_workers" in text and "DISABLED" in text for text in report)


async def test_create_tables_switches_ttl_on_for_existing_tables(url: str) -> None:
    """A table that was created elsewhere without TTL has it afterwards."""
    async with opened(url, "late_") as (stores, client):
        await stores.create_tables()
        await remake(client, "late_workers")
        await stores.create_tables()
        assert await stores.check_tables() == []


GO_KEYS = [
    [("PK", "HASH"), ("SK", "RANGE")],
    [("pk", "HASH"), ("sk", "RANGE")],
    [("request_id", "HASH")],
]


async def _make_with_key(client: Any, name: str, key: list[tuple[str, str]]) -> None:
    await client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": part, "KeyType": kind} for part, kind in key],
        AttributeDefinitions=[{"AttributeName": part, "AttributeType": "S"} for part, _ in key],
    )


@pytest.mark.parametrize("key", GO_KEYS, ids=lambda key: key[0][0])
async def test_the_layout_of_later_go_releases_is_recognised(
    url: str, key: list[tuple[str, str]]
) -> None:
    """`create_tables` does not change such a table, because TTL would delete its items."""
    async with opened(url, "go_") as (stores, client):
        await _make_with_key(client, "go_requests", key)
        await stores.create_tables()
        faults = [difference for difference in await stores.check_tables() if difference.blocking]
        of_key = next(difference for difference in faults if difference.table == "go_requests")
        assert of_key.text.startswith("key is ")
        assert "a later release of the Go implementation" in of_key.text
        assert "cannot be changed in place" in of_key.text
        assert not any(difference.creatable for difference in faults)
        ttl = await client.describe_time_to_live(TableName="go_requests")
        assert ttl["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED"


async def test_what_create_tables_can_fix_is_marked(url: str) -> None:
    """Missing tables and TTL that is off are `creatable`."""
    async with opened(url, "mend_") as (stores, client):
        assert all(difference.creatable for difference in await stores.check_tables())
        await stores.create_tables()
        await remake(client, "mend_workers")
        (difference,) = await stores.check_tables()
        assert (difference.blocking, difference.creatable) == (False, True)
