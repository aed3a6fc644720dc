"""Backups that are restored into other tables, on moto."""

from __future__ import annotations

import json
from functools import partial
from typing import cast

import anyio
import pytest
from aiohttp import web

from contract.table_changes import without_due_index
from integration.deployments import (
    NAME,
    Crashing,
    Denying,
    Deployment,
    SlowTables,
    behind,
    both,
    fast_polls,
    here,
    make,
    until_whole,
)
from integration.proxy import (
    Forward,
    Proxy,
    answering,
)
from streamer_store import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    RequestStatus,
    StoreUnavailable,
    TableMissing,
    TableNames,
    ValidationError,
    open_stores,
)
from streamer_store.dynamo import restoring, tables
from streamer_store.dynamo.client import CheckedClient
from streamer_store.schema import REQUESTS, TABLES
from support import unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_polls")]
__all__ = ["behind", "fast_polls", "here"]


async def test_a_restored_deployment_is_complete(here: Deployment) -> None:
    """Its tables have the same items, indexes that can be queried, and TTL. `check` is clean."""
    await make(here)
    saved = await here.items()
    await here.stores.requests.delete("r0")
    to = unique_prefix()
    restored, _ = await restoring.restore(here.calls, here.tables, NAME, to=to)
    assert restored.name == NAME
    assert await here.items(to) == saved
    assert await tables.check(here.calls, TableNames.from_prefix(to)) == []
    for name in here.names(to):
        ttl = await here.client.describe_time_to_live(TableName=name)
        assert ttl["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"
    async with open_stores(endpoint_url=here.url, prefix=to, batch_writes=False) as stores:
        waiting = stores.requests.get_by_status(RequestStatus.PENDING)
        assert {request.request_id async for request in waiting} == {"r0", "r1", "r2"}
        assert [c.connection_id for c in await stores.connections.list_by_user("u")] == ["c1"]
        (subscription,) = await stores.subscriptions.get_by_request("r1")
        assert subscription.connection_id == "c1"


async def test_a_restore_adds_the_optional_index(here: Deployment) -> None:
    """A backup of tables of an earlier release has no DueIndex."""
    await without_due_index(here.client, here.prefix + REQUESTS.name)
    await make(here)
    to = unique_prefix()
    await restoring.restore(here.calls, here.tables, NAME, to=to)
    assert await tables.check(here.calls, TableNames.from_prefix(to)) == []


async def test_a_restore_can_crash_at_each_call(here: Deployment) -> None:
    """A second run goes on, and the tables are those of a run without a crash."""
    await make(here)
    saved = await here.items()

    async def work(calls: CheckedClient, _number: int) -> None:
        to = unique_prefix()
        try:
            await restoring.restore(calls, here.tables, NAME, to=to)
        finally:
            if cast("Crashing", calls).crashed:
                await restoring.restore(here.calls, here.tables, NAME, to=to)
            assert await here.items(to) == saved
            assert await tables.check(here.calls, TableNames.from_prefix(to)) == []

    # Four ListBackups, and for each table DescribeTable, RestoreTableFromBackup, twice
    # DescribeTable, and DescribeTimeToLive and UpdateTimeToLive.
    assert await until_whole(work, here.calls) == 28


async def test_two_restores_at_once_both_succeed(here: Deployment) -> None:
    """One of them finds tables that the other has begun."""
    await make(here)
    to = unique_prefix()
    results = await both(partial(restoring.restore, here.calls, here.tables, NAME, to=to))
    assert [result.backup.name for result in results] == [NAME, NAME]
    assert await here.items(to) == await here.items()
    assert await tables.check(here.calls, TableNames.from_prefix(to)) == []


async def test_a_restore_refuses_tables_of_others(here: Deployment) -> None:
    """Nothing is begun where one table exists that is not from this backup."""
    await make(here)
    await make(here, "other")
    refused = partial(restoring.restore, here.calls, here.tables)
    with pytest.raises(
        InvalidInput, match=f"{here.prefix}connections is a table .* give another one"
    ):
        await refused(NAME, to=here.prefix)
    with pytest.raises(ValidationError, match="is not 1 to 200 characters"):
        await refused(NAME, to="a b")

    to = unique_prefix()
    name = to + TABLES[-1].name
    await here.client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "WorkerID", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "WorkerID", "AttributeType": "S"}],
    )
    with pytest.raises(
        AlreadyExists, match="the table exists, and was not restored from a backup: delete"
    ):
        await refused(NAME, to=to)
    assert await here.existing(to) == [name]

    to = unique_prefix()
    await refused("other", to=to)
    with pytest.raises(AlreadyExists, match="the table exists, and was restored from arn:aws:dyn"):
        await refused(NAME, to=to)


async def test_a_restore_waits_until_the_tables_are_active(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """TTL is enabled after that. After the timeout the same call goes on waiting."""
    await make(here)
    proxy, calls = behind
    to = unique_prefix()
    restore = partial(restoring.restore, calls, here.tables, NAME, to=to)
    proxy.fault = SlowTables(float("inf"))
    with pytest.raises(StoreUnavailable, match=r"are not restored after 0.1 s. DynamoDB continues"):
        await restore(timeout=0.1)
    assert proxy.calls["UpdateTimeToLive"] == 0
    seen = set()
    proxy.fault = SlowTables(3)
    await restore(on_status=lambda name, status: seen.add((name, status)))
    assert seen == {(name, status) for name in here.names(to) for status in ("CREATING", "ACTIVE")}
    assert proxy.calls["RestoreTableFromBackup"] == 4
    assert await tables.check(here.calls, TableNames.from_prefix(to)) == []


async def test_a_table_that_vanishes_ends_a_restore(
    here: Deployment, behind: tuple[Proxy, CheckedClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that failed or was cancelled leaves no table."""
    monkeypatch.setattr(tables, "_ABSENT_TIMEOUT", 0.05)
    await make(here)
    proxy, calls = behind
    to = unique_prefix()
    proxy.fault = Denying(answering(400, "ResourceNotFoundException"), "DescribeTable")
    with pytest.raises(TableMissing, match="does not exist, or was deleted meanwhile"):
        await restoring.restore(calls, here.tables, NAME, to=to)


async def test_a_failed_wait_ends_the_waits_for_other_tables(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """They may take hours."""
    await make(here)
    proxy, calls = behind
    to = unique_prefix()
    slow = SlowTables(float("inf"))

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        name = json.loads(await request.read()).get("TableName")
        if slow.left and name == to + TABLES[-1].name:
            return await answering(400, "AccessDeniedException")(request, forward)
        return await slow(request, forward)

    proxy.fault = fault
    with anyio.fail_after(10), pytest.raises(AccessDenied):
        await restoring.restore(calls, here.tables, NAME, to=to)
