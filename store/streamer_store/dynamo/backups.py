"""On-demand backups of the four tables: create, find, list and delete them.

A backup of a deployment is four backups of DynamoDB, one of each table, with the same name.
DynamoDB does not keep names unique. Where a table has several backups of one name, the newest is
used, and all of them are deleted together.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import anyio

from streamer_store.clock import Clock
from streamer_store.dynamo import managing
from streamer_store.dynamo.backup_records import (
    Backup,
    TableBackup,
    check_name,
    group,
    is_available,
    table_backup,
)
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.tables import OnStatus, describe, ignore_status
from streamer_store.errors import AlreadyExists, NotFound, StoreUnavailable, TableMissing
from streamer_store.schema import TABLES
from streamer_store.table_names import TableNames

# Seconds. DescribeBackup may be called ten times a second.
_POLL_INTERVAL: Final = 1.0
RESUME_WITHIN: Final = timedelta(hours=1)
"""How long after its beginning a backup can be completed, and belongs to the same command."""


async def create(
    calls: CheckedClient,
    names: TableNames,
    name: str,
    *,
    clock: Clock,
    timeout: float = math.inf,  # noqa: ASYNC109  its error says what continues
    on_status: OnStatus = ignore_status,
) -> Backup:
    """Back up the four tables under one name, all at once, and wait until all are AVAILABLE.

    Nothing is begun unless all tables exist. There are four cases:

    1. There is no backup of the name: it is created.
    2. It is CREATING, or it lacks tables and was begun less than an hour ago, for example by a
       process that was ended: the missing tables are backed up.
    3. It lacks tables and is older: AlreadyExists, since its parts would be of different times.
    4. It is AVAILABLE: it is returned if it was begun less than an hour ago, by a call that was
       interrupted or timed out while it waited. Otherwise AlreadyExists.

    Two calls at the same moment may both create it. Then each table has two backups of the name.

    Raises ValidationError for the name; TableMissing; StoreUnavailable, also if it takes longer
    than `timeout` seconds. DynamoDB then continues, and the same call waits for it again.
    """
    check_name(name)
    await _require_tables(calls, names)
    found = await _find(calls, names, name)
    _require_unfinished(found, clock.now())
    parts = {part.table: part for part in found.tables}

    async def start(table: str) -> None:
        parts[table] = await _create_one(calls, table, name)

    await managing.for_all(found.missing, start)

    async def wait(table: str) -> None:
        parts[table] = await _wait_until_available(calls, parts[table], on_status)

    with anyio.move_on_after(timeout) as limit:
        await managing.wait_for_all(names, wait)
    if limit.cancelled_caught:
        text = (
            f"backup {name} is not AVAILABLE after {timeout:g} s. DynamoDB continues:"
            " repeat the command to wait for it"
        )
        raise StoreUnavailable(text, operation="CreateBackup")
    return replace(found, tables=tuple(parts[table] for table in names), missing=())


async def list_backups(calls: CheckedClient, names: TableNames) -> list[Backup]:
    """Return the on-demand backups of the tables by name, the newest first.

    DynamoDB's own backups (SYSTEM) and those of AWS Backup are not listed.
    """
    by_name: dict[str, list[TableBackup]] = {}
    for table in TABLES:
        async for name, part in _backups_of(calls, names.of(table)):
            by_name.setdefault(name, []).append(part)
    backups = [group(names, name, parts) for name, parts in by_name.items()]
    return sorted(backups, key=lambda backup: (backup.first, backup.name), reverse=True)


async def get(calls: CheckedClient, names: TableNames, name: str) -> Backup:
    """Return the backup of this name. Raises NotFound; ValidationError for the name."""
    check_name(name)
    backup = await _find(calls, names, name)
    if not backup.tables:
        raise NotFound(f"there is no backup {name} of tables {names}", operation="ListBackups")
    return backup


async def delete(calls: CheckedClient, backup: Backup) -> int:
    """Delete the backups of all tables, with the older ones. Return how many were deleted.

    Those that are gone already are no error, so the same call continues after an error or a crash.
    Each is tried before the first error is raised.
    """
    deleted = []
    tables = {part.arn: part.table for part in (*backup.tables, *backup.older)}

    async def delete_one(arn: str) -> None:
        with suppress(NotFound):
            await calls.call("DeleteBackup", table=tables[arn], BackupArn=arn)
            deleted.append(arn)

    await managing.for_all(tables, delete_one)
    return len(deleted)


async def _require_tables(calls: CheckedClient, names: TableNames) -> None:
    missing = []
    for table in TABLES:
        name = names.of(table)
        description = await describe(calls, name)
        if description is None:
            missing.append(name)
        elif description["TableStatus"] not in {"ACTIVE", "UPDATING"}:
            text = f"the table is {description['TableStatus']}, so that it cannot be backed up"
            raise StoreUnavailable(text, table=name)
    if missing:
        text = f"no backup was begun, because tables are missing: {', '.join(missing)}"
        raise TableMissing(text, operation="CreateBackup")


def _require_unfinished(backup: Backup, now: datetime) -> None:
    """Raise AlreadyExists unless the backup can be created, or completed."""
    if not backup.tables:
        return
    what = f"backup {backup.name} of {backup.first:%Y-%m-%d %H:%M:%S} UTC"
    is_recent = now - backup.first <= RESUME_WITHIN
    if backup.status == "AVAILABLE" and not is_recent:
        raise AlreadyExists(f"{what} exists: choose another name", operation="CreateBackup")
    if backup.missing and not is_recent:
        text = f"{what} lacks {', '.join(backup.missing)}, and is too old to be completed"
        todo = "delete it, or choose another name"
        raise AlreadyExists(f"{text}: {todo}", operation="CreateBackup")


async def _create_one(calls: CheckedClient, table: str, name: str) -> TableBackup:
    answer = await managing.retry_until_enabled(calls, "CreateBackup", table=table, BackupName=name)
    return table_backup(table, answer["BackupDetails"])


async def _wait_until_available(
    calls: CheckedClient, part: TableBackup, on_status: OnStatus
) -> TableBackup:
    started = anyio.current_time()
    while True:
        on_status(part.table, part.status)
        if is_available(part):
            return part
        waited = anyio.current_time() - started
        await anyio.sleep(managing.poll_pause(waited, shortest=_POLL_INTERVAL))
        answer = await calls.call("DescribeBackup", table=part.table, BackupArn=part.arn)
        part = table_backup(part.table, answer["BackupDescription"]["BackupDetails"])
        if part.status == "DELETED":
            raise NotFound("the backup was deleted meanwhile", table=part.table)


async def _find(calls: CheckedClient, names: TableNames, name: str) -> Backup:
    """Return the backup of this name, which has no tables if there is none."""
    parts = [
        part
        for table in TABLES
        async for other, part in _backups_of(calls, names.of(table))
        if other == name
    ]
    return group(names, name, parts)


async def _backups_of(calls: CheckedClient, table: str) -> AsyncIterator[tuple[str, TableBackup]]:
    """Yield the name and the backup, for each on-demand backup of a table, existing or not."""
    start: dict[str, Any] = {}
    while True:
        answer = await calls.call(
            "ListBackups", table=table, TableName=table, BackupType="USER", **start
        )
        for summary in answer["BackupSummaries"]:
            if summary["BackupStatus"] != "DELETED":
                yield summary["BackupName"], table_backup(table, summary)
        last = answer.get("LastEvaluatedBackupArn")
        if not last:
            return
        start = {"ExclusiveStartBackupArn": last}
