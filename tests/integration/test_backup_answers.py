"""Backups where DynamoDB answers slowly, in pages, or with errors. moto does none of it."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import cast

import anyio
import pytest
from aiohttp import web

from integration.deployments import (
    CLOCK,
    NAME,
    Denying,
    Deployment,
    Slow,
    behind,
    fast_polls,
    here,
    make,
    names_of,
)
from integration.proxy import (
    Forward,
    Proxy,
    answering,
    json_body,
    operation_of,
    with_body,
)
from streamer_store import (
    AccessDenied,
    InvalidInput,
    NotFound,
    StoreUnavailable,
    TableNames,
)
from streamer_store.dynamo import backups, restoring
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.connecting import open_checked_client
from support import unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_polls")]
__all__ = ["behind", "fast_polls", "here"]


class Paging:
    """Returns ListBackups in pages of two. moto has one page."""

    def __init__(self) -> None:
        self.pages: Counter[str] = Counter()

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        if operation_of(request) != "ListBackups":
            return answer
        asked = json.loads(await request.read())
        assert asked["BackupType"] == "USER"
        self.pages[asked["TableName"]] += 1
        body = json_body(answer)
        summaries = body["BackupSummaries"]
        arns = [summary["BackupArn"] for summary in summaries]
        start = arns.index(asked["ExclusiveStartBackupArn"]) + 1 if len(asked) > 2 else 0
        body["BackupSummaries"] = summaries[start : start + 2]
        if start + 2 < len(arns):
            body["LastEvaluatedBackupArn"] = arns[start + 1]
        return with_body(answer, body)


async def test_all_pages_are_read(here: Deployment, behind: tuple[Proxy, CheckedClient]) -> None:
    """A backup may be on any page."""
    proxy, calls = behind
    names = [f"backup{number}" for number in range(5)]
    for name in names:
        await make(here, name)
    proxy.fault = paging = Paging()
    listed = await backups.list_backups(calls, here.tables)
    assert sorted(backup.name for backup in listed) == names
    assert all(len(backup.tables) == 4 for backup in listed)
    assert paging.pages == dict.fromkeys(here.names(), 3)
    for name in names:
        assert (await backups.get(calls, here.tables, name)).name == name


async def test_a_create_waits_until_all_are_available(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """The statuses are reported. After the timeout the same call goes on waiting."""
    proxy, calls = behind
    proxy.fault = Slow(float("inf"))
    create = partial(backups.create, calls, here.tables, NAME, clock=CLOCK)
    with pytest.raises(StoreUnavailable, match=r"not AVAILABLE after 0.1 s. DynamoDB continues"):
        await create(timeout=0.1)
    with pytest.raises(StoreUnavailable, match="is still CREATING: try again"):
        await restoring.restore(calls, here.tables, NAME, to="other_", timeout=1)
    seen: list[tuple[str, str]] = []
    proxy.fault = Slow(3)
    backup = await create(on_status=lambda name, status: seen.append((name, status)))
    assert (backup.status, backup.older) == ("AVAILABLE", ())
    for name in here.names():
        statuses = [status for other, status in seen if other == name]
        assert statuses == ["CREATING"] * 3 + ["AVAILABLE"]
    assert proxy.calls["CreateBackup"] == 4


async def test_a_backup_that_is_deleted_meanwhile_is_an_error(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """A create must not wait for it for ever."""
    proxy, calls = behind
    proxy.fault = Slow(float("inf"))
    ended = []

    async def create() -> None:
        with pytest.raises(NotFound):
            await backups.create(calls, here.tables, NAME, clock=CLOCK)
        ended.append(True)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create)
            while proxy.calls["DescribeBackup"] < 4:  # noqa: ASYNC110  the proxy counts only
                await anyio.sleep(0.01)
            await backups.delete(here.calls, await backups.get(here.calls, here.tables, NAME))
    assert ended == [True]


async def test_a_backup_whose_status_is_deleted_is_an_error(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """DynamoDB may describe it for a while."""
    proxy, calls = behind
    slow = Slow(float("inf"))

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await slow(request, forward)
        if operation_of(request) == "DescribeBackup":
            body = json_body(cast("web.Response", answer))
            body["BackupDescription"]["BackupDetails"]["BackupStatus"] = "DELETED"
            return with_body(cast("web.Response", answer), body)
        return answer

    proxy.fault = fault
    with pytest.raises(NotFound, match="the backup was deleted meanwhile"):
        await backups.create(calls, here.tables, NAME, clock=CLOCK)


async def test_a_new_table_is_backed_up_once_dynamodb_allows_it(
    here: Deployment, behind: tuple[Proxy, CheckedClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB refuses backups for some minutes after a table was created."""
    from streamer_store.dynamo import managing

    monkeypatch.setattr(managing, "_POLL_INTERVAL", 0.01)
    proxy, calls = behind
    refusing = answering(400, "ContinuousBackupsUnavailableException")
    proxy.fault = denying = Denying(refusing, "CreateBackup", times=6)
    backup = await backups.create(calls, here.tables, NAME, clock=CLOCK)
    assert (denying.left, proxy.calls["CreateBackup"]) == (0, 10)
    assert (backup.status, len(backup.tables)) == ("AVAILABLE", 4)
    monkeypatch.setattr(managing, "_ENABLE_TIMEOUT", 0.05)
    proxy.fault = Denying(refusing, "CreateBackup")
    with pytest.raises(StoreUnavailable, match="ContinuousBackupsUnavailableException"):
        await backups.create(calls, here.tables, "other", clock=CLOCK)


@pytest.mark.parametrize(
    "operation",
    ["DescribeTable", "ListBackups", "CreateBackup", "DeleteBackup", "RestoreTableFromBackup"],
)
async def test_a_denied_call_is_an_error(
    operation: str, here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """The error names the operation."""
    await make(here)
    proxy, calls = behind
    proxy.fault = Denying(answering(400, "AccessDeniedException"), operation)

    async def work() -> None:
        await backups.create(calls, here.tables, "other", clock=CLOCK)
        await restoring.restore(calls, here.tables, "other", to=unique_prefix())
        await backups.delete(calls, await backups.get(calls, here.tables, NAME))

    with pytest.raises(AccessDenied) as denied:
        await work()
    assert denied.value.operation == operation


async def test_a_table_that_is_being_deleted_is_not_backed_up(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """Nothing is begun."""
    proxy, calls = behind

    async def deleting(_request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        body = json_body(answer)
        if body.get("Table", {}).get("TableName", "").endswith("workers"):
            body["Table"]["TableStatus"] = "DELETING"
        return with_body(answer, body)

    proxy.fault = deleting
    with pytest.raises(StoreUnavailable, match="the table is DELETING"):
        await backups.create(calls, here.tables, NAME, clock=CLOCK)
    assert await names_of(here) == []


async def test_a_deleted_backup_is_not_listed(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """DynamoDB may list it for a while, with the status DELETED."""
    await make(here)
    proxy, calls = behind

    async def deleted(_request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        body = json_body(answer)
        for summary in body["BackupSummaries"]:
            summary["BackupStatus"] = "DELETED"
        return with_body(answer, body)

    proxy.fault = deleted
    assert await backups.list_backups(calls, here.tables) == []


@pytest.mark.local
async def test_dynamodb_local_has_no_backups(local_url: str) -> None:
    """The error says so, and names the operation."""
    async with open_checked_client(endpoint_url=local_url, region=None) as calls:
        with pytest.raises(InvalidInput, match=r"no operation ListBackups. DynamoDB Local has no"):
            await backups.list_backups(calls, TableNames.from_prefix(unique_prefix()))
