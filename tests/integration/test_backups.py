"""Backups of the four tables: created, listed and deleted, on moto."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import cast

import pytest

from integration.deployments import (
    CLOCK,
    NAME,
    Crashing,
    Deployment,
    behind,
    both,
    deployment,
    fast_polls,
    here,
    make,
    names_of,
    until_whole,
)
from streamer_store import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    TableMissing,
    ValidationError,
)
from streamer_store.dynamo import backups, restoring
from streamer_store.dynamo.backup_records import Backup
from streamer_store.dynamo.client import CheckedClient
from support import ManualClock, unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fast_polls")]
__all__ = ["behind", "fast_polls", "here"]


async def test_a_backup_is_created_listed_and_deleted(here: Deployment) -> None:
    """It has one backup of each table, with its ARN, time, size and status."""
    before = datetime.now(UTC)
    created = await make(here)
    assert [part.table for part in created.tables] == here.names()
    assert created.status == "AVAILABLE"
    assert before <= created.first <= created.last <= datetime.now(UTC)
    assert created.size == sum(part.size or 0 for part in created.tables) > 0
    assert await backups.list_backups(here.calls, here.tables) == [created]
    assert await backups.get(here.calls, here.tables, NAME) == created
    assert await backups.delete(here.calls, created) == 4
    assert await backups.list_backups(here.calls, here.tables) == []


async def test_backups_of_other_prefixes_are_not_seen(here: Deployment, moto_url: str) -> None:
    """The same name may be used for other tables."""
    async with deployment(moto_url) as other:
        await make(other)
        assert await names_of(here) == []
        await make(here)
        await backups.delete(here.calls, await backups.get(here.calls, here.tables, NAME))
        assert await names_of(other) == [NAME]


async def test_backups_are_listed_newest_first_and_outlive_their_tables(here: Deployment) -> None:
    """Also those of tables that were deleted."""
    for name in ("first", "second"):
        await make(here, name)
    for name in here.names():
        await here.client.delete_table(TableName=name)
    assert await names_of(here) == ["second", "first"]


async def test_a_name_is_used_once(here: Deployment) -> None:
    """For an hour the same call returns the backup. Then it is refused. Neither creates one."""
    created = await make(here)
    assert await make(here) == created
    later = ManualClock()
    later.advance((created.first + backups.RESUME_WITHIN - later.now()).total_seconds() + 1)
    with pytest.raises(AlreadyExists, match=r"backup nightly of .* exists: choose another name"):
        await backups.create(here.calls, here.tables, NAME, clock=later)
    assert await backups.get(here.calls, here.tables, NAME) == created
    assert not created.older


@pytest.mark.parametrize("name", ["", "ab", "a" * 256, "a b", "a/b", "äöü", "abc\n", "abc\x1b[31m"])
async def test_a_wrong_name_is_refused(name: str, here: Deployment) -> None:
    """The error says which names are right."""
    for work in (
        make(here, name),
        backups.get(here.calls, here.tables, name),
        restoring.restore(here.calls, here.tables, name, to="x_"),
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
        await backups.get(here.calls, here.tables, NAME)
    with pytest.raises(NotFound):
        await restoring.restore(here.calls, here.tables, NAME, to=to)
    assert await here.existing(to) == []


async def test_a_create_can_crash_at_each_call(here: Deployment) -> None:
    """A second run completes the backup, with one of each table."""

    async def work(calls: CheckedClient, number: int) -> None:
        name = f"backup{number}"
        try:
            await backups.create(calls, here.tables, name, clock=CLOCK)
        finally:
            if cast("Crashing", calls).crashed:
                begun = await backups.list_backups(here.calls, here.tables)
                if not any(each.name == name and not each.missing for each in begun):
                    await make(here, name)
                backup = await backups.get(here.calls, here.tables, name)
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
            for left in await backups.list_backups(here.calls, here.tables):
                await backups.delete(here.calls, left)
            assert await names_of(here) == []

    assert await until_whole(work, here.calls) == 4


async def test_two_creates_at_once_leave_one_usable_backup(here: Deployment) -> None:
    """DynamoDB knows no unique names: the newest of each table is used, and all are deleted."""
    results = await both(partial(make, here))
    assert any(isinstance(result, Backup) for result in results)
    backup = await backups.get(here.calls, here.tables, NAME)
    assert (backup.status, backup.missing) == ("AVAILABLE", ())
    for part in backup.older:
        (newer,) = [used for used in backup.tables if used.table == part.table]
        assert (part.created, part.arn) < (newer.created, newer.arn)
    to = unique_prefix()
    await restoring.restore(here.calls, here.tables, NAME, to=to)
    assert await here.items(to) == await here.items()
    assert await backups.delete(here.calls, backup) == 4 + len(backup.older)
    assert await names_of(here) == []


async def test_several_backups_of_one_name_are_defined(here: Deployment) -> None:
    """Other programs may make them. The newest is restored, and all are deleted."""
    (name, *_) = here.names()
    await here.client.create_backup(TableName=name, BackupName=NAME)
    await here.stores.connections.delete("c1")
    await make_with_client(here)
    backup = await backups.get(here.calls, here.tables, NAME)
    assert [part.table for part in backup.older] == [name]
    to = unique_prefix()
    await restoring.restore(here.calls, here.tables, NAME, to=to)
    assert (await here.items(to))[0] == []
    assert await backups.delete(here.calls, backup) == 5


async def make_with_client(here: Deployment) -> None:
    """Create a backup as another program does."""
    for name in here.names():
        await here.client.create_backup(TableName=name, BackupName=NAME)


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
    late = partial(backups.create, here.calls, here.tables, NAME, clock=clock)
    with pytest.raises(AlreadyExists, match="too old to be completed: delete it"):
        await late()
    (incomplete,) = await backups.list_backups(here.calls, here.tables)
    assert (incomplete.status, list(incomplete.missing)) == ("INCOMPLETE", rest)
    with pytest.raises(InvalidInput, match=f"is incomplete: it lacks {', '.join(rest)}"):
        await restoring.restore(here.calls, here.tables, NAME, to="other_")
    assert (await make(here)).tables[0] == incomplete.tables[0]
