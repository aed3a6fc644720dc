"""Backups of the four tables, and their restore into other tables, on moto."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import anyio
import pytest
from aiohttp import web

from contract.table_changes import without_due_index
from integration.deployments import Crashing, Denying, Deployment, deployment
from integration.proxy import (
    Forward,
    Proxy,
    answering,
    json_body,
    operation_of,
    proxy_to,
    with_body,
)
from streamer_store import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    NotFound,
    RequestStatus,
    StoreError,
    StoreUnavailable,
    SystemClock,
    TableMissing,
    ValidationError,
    open_stores,
)
from streamer_store.dynamo import backups, restoring, tables
from streamer_store.dynamo.backup_records import Backup
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.connecting import open_checked_client
from streamer_store.errors import leaf_exceptions
from streamer_store.schema import REQUESTS, TABLES
from support import ManualClock, unique_prefix

pytestmark = pytest.mark.anyio
CLOCK = SystemClock()
NAME = "nightly"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "_POLL_INTERVAL", 0.01)
    monkeypatch.setattr(tables, "_POLL_INTERVAL", 0.01)


@pytest.fixture
async def here(moto_url: str) -> AsyncIterator[Deployment]:
    async with deployment(moto_url) as made:
        yield made


@pytest.fixture
async def behind(here: Deployment) -> AsyncIterator[tuple[Proxy, CheckedClient]]:
    """Give a proxy, and a client behind it."""
    with proxy_to(here.url) as proxy:
        async with open_checked_client(endpoint_url=proxy.url, region=None) as calls:
            yield proxy, calls


async def make(here: Deployment, name: str = NAME, **options: Any) -> Backup:
    return await backups.create(here.calls, here.prefix, name, clock=CLOCK, **options)


async def names_of(here: Deployment) -> list[str]:
    return [backup.name for backup in await backups.list_backups(here.calls, here.prefix)]


async def test_a_backup_is_created_listed_and_deleted(here: Deployment) -> None:
    """It has one backup of each table, with its ARN, time, size and status."""
    before = datetime.now(UTC)
    created = await make(here)
    assert [part.table for part in created.tables] == here.names()
    assert created.status == "AVAILABLE"
    assert before <= created.first <= created.last <= datetime.now(UTC)
    assert created.size == sum(part.size or 0 for part in created.tables) > 0
    assert await backups.list_backups(here.calls, here.prefix) == [created]
    assert await backups.get(here.calls, here.prefix, NAME) == created
    assert await backups.delete(here.calls, created) == 4
    assert await backups.list_backups(here.calls, here.prefix) == []


async def test_backups_of_other_prefixes_are_not_seen(here: Deployment, moto_url: str) -> None:
    """The same name may be used for other tables."""
    async with deployment(moto_url) as other:
        await make(other)
        assert await names_of(here) == []
        await make(here)
        await backups.delete(here.calls, await backups.get(here.calls, here.prefix, NAME))
        assert await names_of(other) == [NAME]


async def test_backups_are_listed_newest_first_and_outlive_their_tables(here: Deployment) -> None:
    """Also those of tables that were deleted."""
    for name in ("first", "second"):
        await make(here, name)
    for name in here.names():
        await here.client.delete_table(TableName=name)
    assert await names_of(here) == ["second", "first"]


async def test_a_restored_deployment_is_complete(here: Deployment) -> None:
    """Its tables have the same items, indexes that can be queried, and TTL. `check` is clean."""
    await make(here)
    saved = await here.items()
    await here.stores.requests.delete("r0")
    to = unique_prefix()
    restored = await restoring.restore(here.calls, here.prefix, NAME, to=to)
    assert restored.name == NAME
    assert await here.items(to) == saved
    assert await tables.check(here.calls, to) == []
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
    await restoring.restore(here.calls, here.prefix, NAME, to=to)
    assert await tables.check(here.calls, to) == []


async def test_a_name_is_used_once(here: Deployment) -> None:
    """A second backup of the name is refused, and creates nothing."""
    created = await make(here)
    with pytest.raises(AlreadyExists, match=r"backup nightly of .* exists: choose another name"):
        await make(here)
    assert await backups.get(here.calls, here.prefix, NAME) == created


@pytest.mark.parametrize("name", ["", "ab", "a" * 256, "a b", "a/b", "äöü", "abc\n", "abc\x1b[31m"])
async def test_a_wrong_name_is_refused(name: str, here: Deployment) -> None:
    """The error says which names are right."""
    for work in (
        make(here, name),
        backups.get(here.calls, here.prefix, name),
        restoring.restore(here.calls, here.prefix, name, to="x_"),
    ):
        with pytest.raises(ValidationError, match="is not 3 to 255 characters of a-z"):
            await work
    assert await names_of(here) == []


@pytest.mark.parametrize("name", ["abc", "A" * 255, "2026-11-26_before.upgrade"])
async def test_a_right_name_is_accepted(name: str, here: Deployment) -> None:
    """Of 3 to 255 characters."""
    assert (await make(here, name)).name == name


async def test_nothing_is_begun_when_a_table_is_missing(here: Deployment) -> None:
    """The error names all tables that are missing."""
    first, *_, last = here.names()
    for name in (first, last):
        await here.client.delete_table(TableName=name)
    with pytest.raises(TableMissing, match=f"no backup was begun.*: {first}, {last}"):
        await make(here)
    assert await names_of(here) == []


async def test_an_absent_backup_is_not_found(here: Deployment) -> None:
    """Nothing is created by a restore of it."""
    to = unique_prefix()
    with pytest.raises(NotFound, match=f"there is no backup nightly of tables {here.prefix}"):
        await backups.get(here.calls, here.prefix, NAME)
    with pytest.raises(NotFound):
        await restoring.restore(here.calls, here.prefix, NAME, to=to)
    assert await here.existing(to) == []


async def until_whole(work: Any, calls: CheckedClient) -> int:
    """Run `work` with a crash after its first, second ... call, until a run has no crash.

    A crash before a call is one after the call before it. Return the number of crashes.
    """
    crashes = 0
    while True:
        crashing = Crashing(calls, at=crashes + 1)
        try:
            await work(cast("CheckedClient", crashing), crashes)
        except (Crashing.CrashError, ExceptionGroup) as error:
            if any(not isinstance(leaf, Crashing.CrashError) for leaf in leaf_exceptions(error)):
                raise
        if not crashing.crashed:
            return crashes
        crashes += 1


async def test_a_create_can_crash_at_each_call(here: Deployment) -> None:
    """A second run completes the backup, with one of each table."""

    async def work(calls: CheckedClient, number: int) -> None:
        name = f"backup{number}"
        try:
            await backups.create(calls, here.prefix, name, clock=CLOCK)
        finally:
            if cast("Crashing", calls).crashed:
                begun = await backups.list_backups(here.calls, here.prefix)
                if not any(each.name == name and not each.missing for each in begun):
                    await make(here, name)
                backup = await backups.get(here.calls, here.prefix, name)
                assert (backup.status, len(backup.tables), backup.older) == ("AVAILABLE", 4, ())

    # Four DescribeTable, four ListBackups, four CreateBackup.
    assert await until_whole(work, here.calls) == 12


async def test_a_delete_can_crash_at_each_call(here: Deployment) -> None:
    """A second run deletes what is left."""

    async def work(calls: CheckedClient, number: int) -> None:
        backup = await make(here, f"backup{number}")
        try:
            await backups.delete(calls, backup)
        finally:
            for left in await backups.list_backups(here.calls, here.prefix):
                await backups.delete(here.calls, left)
            assert await names_of(here) == []

    assert await until_whole(work, here.calls) == 4


async def test_a_restore_can_crash_at_each_call(here: Deployment) -> None:
    """A second run goes on, and the tables are those of a run without a crash."""
    await make(here)
    saved = await here.items()

    async def work(calls: CheckedClient, _number: int) -> None:
        to = unique_prefix()
        try:
            await restoring.restore(calls, here.prefix, NAME, to=to)
        finally:
            if cast("Crashing", calls).crashed:
                await restoring.restore(here.calls, here.prefix, NAME, to=to)
            assert await here.items(to) == saved
            assert await tables.check(here.calls, to) == []

    # Four ListBackups, and for each table DescribeTable, RestoreTableFromBackup, twice
    # DescribeTable, and DescribeTimeToLive and UpdateTimeToLive.
    assert await until_whole(work, here.calls) == 28


async def both(work: Any) -> list[Any]:
    """Run two calls at once. Return the result or the StoreError of each."""
    results: list[Any] = []

    async def run() -> None:
        try:
            results.append(await work())
        except StoreError as error:
            results.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(run)
    return results


async def test_two_creates_at_once_leave_one_usable_backup(here: Deployment) -> None:
    """DynamoDB knows no unique names: the newest of each table is used, and all are deleted."""
    results = await both(partial(make, here))
    assert any(isinstance(result, Backup) for result in results)
    backup = await backups.get(here.calls, here.prefix, NAME)
    assert (backup.status, backup.missing) == ("AVAILABLE", ())
    for part in backup.older:
        (newer,) = [used for used in backup.tables if used.table == part.table]
        assert (part.created, part.arn) < (newer.created, newer.arn)
    to = unique_prefix()
    await restoring.restore(here.calls, here.prefix, NAME, to=to)
    assert await here.items(to) == await here.items()
    assert await backups.delete(here.calls, backup) == 4 + len(backup.older)
    assert await names_of(here) == []


async def test_several_backups_of_one_name_are_defined(here: Deployment) -> None:
    """Other programs may make them. The newest is restored, and all are deleted."""
    (name, *_) = here.names()
    await here.client.create_backup(TableName=name, BackupName=NAME)
    await here.stores.connections.delete("c1")
    await make_with_client(here)
    backup = await backups.get(here.calls, here.prefix, NAME)
    assert [part.table for part in backup.older] == [name]
    to = unique_prefix()
    await restoring.restore(here.calls, here.prefix, NAME, to=to)
    assert (await here.items(to))[0] == []
    assert await backups.delete(here.calls, backup) == 5


async def make_with_client(here: Deployment) -> None:
    """Create a backup as another program does."""
    for name in here.names():
        await here.client.create_backup(TableName=name, BackupName=NAME)


async def test_two_restores_at_once_both_succeed(here: Deployment) -> None:
    """One of them finds tables that the other has begun."""
    await make(here)
    to = unique_prefix()
    results = await both(partial(restoring.restore, here.calls, here.prefix, NAME, to=to))
    assert [result.name for result in results] == [NAME, NAME]
    assert await here.items(to) == await here.items()
    assert await tables.check(here.calls, to) == []


async def test_two_deletes_at_once_both_succeed(here: Deployment) -> None:
    """Each backup is deleted once."""
    backup = await make(here)
    assert sum(await both(partial(backups.delete, here.calls, backup))) == 4


async def test_an_incomplete_backup_is_completed_for_an_hour(
    here: Deployment, clock: ManualClock
) -> None:
    """Later it is refused, since its parts would be of different times. It can be deleted."""
    first, *rest = here.names()
    await here.client.create_backup(TableName=first, BackupName=NAME)
    late = partial(backups.create, here.calls, here.prefix, NAME, clock=clock)
    with pytest.raises(AlreadyExists, match="too old to be completed: delete it"):
        await late()
    (incomplete,) = await backups.list_backups(here.calls, here.prefix)
    assert (incomplete.status, list(incomplete.missing)) == ("INCOMPLETE", rest)
    with pytest.raises(InvalidInput, match=f"is incomplete: it lacks {', '.join(rest)}"):
        await restoring.restore(here.calls, here.prefix, NAME, to="other_")
    assert (await make(here)).tables[0] == incomplete.tables[0]


async def test_a_restore_refuses_tables_of_others(here: Deployment) -> None:
    """Nothing is begun where one table exists that is not from this backup."""
    await make(here)
    await make(here, "other")
    refused = partial(restoring.restore, here.calls, here.prefix)
    with pytest.raises(InvalidInput, match="give another one"):
        await refused(NAME, to=here.prefix)
    with pytest.raises(ValidationError, match="is not at most 200 characters"):
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
    listed = await backups.list_backups(calls, here.prefix)
    assert sorted(backup.name for backup in listed) == names
    assert all(len(backup.tables) == 4 for backup in listed)
    assert paging.pages == dict.fromkeys(here.names(), 3)
    for name in names:
        assert (await backups.get(calls, here.prefix, name)).name == name


class Slow:
    """Shows backups as CREATING, and restored tables and indexes as CREATING, so many times."""

    def __init__(self, times: float) -> None:
        self.left = Counter[str]()
        self._times = times

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        if answer.status != HTTPStatus.OK:
            return answer
        body = json_body(answer)
        match operation_of(request):
            case "CreateBackup":
                self._show(body["BackupDetails"], "BackupStatus", body["BackupDetails"])
            case "DescribeBackup":
                details = body["BackupDescription"]["BackupDetails"]
                self._show(details, "BackupStatus", details)
            case "ListBackups":
                for summary in body["BackupSummaries"]:
                    self._show(summary, "BackupStatus", summary)
            case "DescribeTable" if "RestoreSummary" in body.get("Table", {}):
                self._show(body["Table"], "TableStatus", body["Table"])
        return with_body(answer, body)

    def _show(self, key: dict[str, Any], field: str, where: dict[str, Any]) -> None:
        name = key.get("BackupArn") or key["TableName"]
        if self.left[name] < self._times:
            self.left[name] += 1
            where[field] = "CREATING"


async def test_a_create_waits_until_all_are_available(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """The statuses are reported. After the timeout the same call goes on waiting."""
    proxy, calls = behind
    proxy.fault = Slow(float("inf"))
    create = partial(backups.create, calls, here.prefix, NAME, clock=CLOCK)
    with pytest.raises(StoreUnavailable, match=r"not AVAILABLE after 0.1 s. DynamoDB continues"):
        await create(timeout=0.1)
    with pytest.raises(StoreUnavailable, match="is still CREATING: try again"):
        await restoring.restore(calls, here.prefix, NAME, to="other_")
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
            await backups.create(calls, here.prefix, NAME, clock=CLOCK)
        ended.append(True)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create)
            while proxy.calls["DescribeBackup"] < 4:  # noqa: ASYNC110  the proxy counts only
                await anyio.sleep(0.01)
            await backups.delete(here.calls, await backups.get(here.calls, here.prefix, NAME))
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
        await backups.create(calls, here.prefix, NAME, clock=CLOCK)


async def test_a_restore_waits_until_the_tables_are_active(
    here: Deployment, behind: tuple[Proxy, CheckedClient]
) -> None:
    """TTL is enabled after that. After the timeout the same call goes on waiting."""
    await make(here)
    proxy, calls = behind
    to = unique_prefix()
    restore = partial(restoring.restore, calls, here.prefix, NAME, to=to)
    proxy.fault = SlowTables(float("inf"))
    with pytest.raises(StoreUnavailable, match=r"are not restored after 0.1 s. DynamoDB continues"):
        await restore(timeout=0.1)
    assert proxy.calls["UpdateTimeToLive"] == 0
    seen = set()
    proxy.fault = SlowTables(3)
    await restore(on_status=lambda name, status: seen.add((name, status)))
    assert seen == {(name, status) for name in here.names(to) for status in ("CREATING", "ACTIVE")}
    assert proxy.calls["RestoreTableFromBackup"] == 4
    assert await tables.check(here.calls, to) == []


class SlowTables(Slow):
    """Shows restored tables as CREATING."""

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        if operation_of(request) == "DescribeTable":
            return await super().__call__(request, forward)
        return await forward()


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
        await restoring.restore(calls, here.prefix, NAME, to=to)


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
        await restoring.restore(calls, here.prefix, NAME, to=to)


async def test_a_new_table_is_backed_up_once_dynamodb_allows_it(
    here: Deployment, behind: tuple[Proxy, CheckedClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB refuses backups for some minutes after a table was created."""
    from streamer_store.dynamo import managing

    monkeypatch.setattr(managing, "_POLL_INTERVAL", 0.01)
    proxy, calls = behind
    refusing = answering(400, "ContinuousBackupsUnavailableException")
    proxy.fault = denying = Denying(refusing, "CreateBackup", times=6)
    backup = await backups.create(calls, here.prefix, NAME, clock=CLOCK)
    assert (denying.left, proxy.calls["CreateBackup"]) == (0, 10)
    assert (backup.status, len(backup.tables)) == ("AVAILABLE", 4)
    monkeypatch.setattr(managing, "_ENABLE_TIMEOUT", 0.05)
    proxy.fault = Denying(refusing, "CreateBackup")
    with pytest.raises(StoreUnavailable, match="ContinuousBackupsUnavailableException"):
        await backups.create(calls, here.prefix, "other", clock=CLOCK)


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
        await backups.create(calls, here.prefix, "other", clock=CLOCK)
        await restoring.restore(calls, here.prefix, "other", to=unique_prefix())
        await backups.delete(calls, await backups.get(calls, here.prefix, NAME))

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
        await backups.create(calls, here.prefix, NAME, clock=CLOCK)
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
    assert await backups.list_backups(calls, here.prefix) == []


@pytest.mark.local
async def test_dynamodb_local_has_no_backups(local_url: str) -> None:
    """The error says so, and names the operation."""
    async with open_checked_client(endpoint_url=local_url, region=None) as calls:
        with pytest.raises(InvalidInput, match=r"no operation ListBackups. DynamoDB Local has no"):
            await backups.list_backups(calls, unique_prefix())
