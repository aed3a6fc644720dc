"""Restore a backup of the four tables into tables with another prefix."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import anyio

from streamer_store.dynamo import backups, managing, tables
from streamer_store.dynamo.backup_records import Backup
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.faults import error_code
from streamer_store.dynamo.tables import OnStatus, ignore_status
from streamer_store.errors import (
    AlreadyExists,
    InvalidInput,
    StoreError,
    StoreUnavailable,
)
from streamer_store.table_names import TableNames, check_prefix

# Answers to the restore of a table that exists already, or is being created.
_TAKEN: Final = frozenset({"TableAlreadyExistsException", "TableInUseException"})


class Restored(NamedTuple):
    """A backup that was restored, and the tables whose restore this call has begun."""

    backup: Backup
    begun: tuple[str, ...]


async def restore(
    calls: CheckedClient,
    names: TableNames,
    name: str,
    *,
    to: str,
    timeout: float = math.inf,  # noqa: ASYNC109  its error says what continues
    on_status: OnStatus = ignore_status,
) -> Restored:
    """Restore the backup of this name into tables of the prefix `to`.

    All tables are begun at once. When they are ACTIVE, the optional indexes that they lack are
    added, and TTL is enabled. DynamoDB restores their other indexes and their capacity mode.

    Nothing is begun unless the backup is AVAILABLE, and each target table is absent or was
    restored from this very backup. So the same call continues after an error or a crash.

    Raises NotFound if there is no such backup, ValidationError for the name or the prefix,
    InvalidInput if tables are missing in the backup or a table would be one of those that were
    backed up, AlreadyExists for other tables. Raises StoreUnavailable if it takes longer than
    `timeout` seconds. DynamoDB then continues, and the same call waits for it again.
    """
    check_prefix(to)
    targets = TableNames.from_prefix(to)
    if own := sorted(set(targets) & set(names)):
        text = f"with prefix {to}, {own[0]} is a table that was backed up: give another one"
        raise InvalidInput(text, operation="RestoreTableFromBackup")
    backup = await backups.get(calls, names, name)
    _require_available(backup)
    sources = {target: part.arn for target, part in zip(targets, backup.tables, strict=True)}
    absent = [target for target, arn in sources.items() if not await _exists(calls, target, arn)]

    async def start(target: str) -> None:
        await _start(calls, target, sources[target])

    async def wait(target: str) -> None:
        await tables.wait_until_active(calls, target, timeout=math.inf, on_status=on_status)

    await managing.for_all(absent, start)
    with anyio.move_on_after(timeout) as limit:
        await managing.wait_for_all(sources, wait)
        await tables.complete(calls, targets, timeout=math.inf, on_status=on_status)
    if limit.cancelled_caught:
        text = (
            f"tables {to}… are not restored after {timeout:g} s. DynamoDB continues:"
            " repeat the command to wait for them"
        )
        raise StoreUnavailable(text, operation="RestoreTableFromBackup")
    return Restored(backup, begun=tuple(absent))


def _require_available(backup: Backup) -> None:
    if backup.missing:
        text = f"backup {backup.name} is incomplete: it lacks {', '.join(backup.missing)}"
        raise InvalidInput(text, operation="RestoreTableFromBackup")
    if backup.status != "AVAILABLE":
        text = f"backup {backup.name} is still {backup.status}: try again when it is AVAILABLE"
        raise StoreUnavailable(text, operation="RestoreTableFromBackup")


async def _exists(calls: CheckedClient, target: str, arn: str) -> bool:
    """Return whether the table exists. Raises AlreadyExists if it is not from this backup."""
    description = await tables.describe(calls, target)
    if description is None:
        return False
    source = description.get("RestoreSummary", {}).get("SourceBackupArn")
    if source != arn:
        origin = f"restored from {source}" if source else "not restored from a backup"
        text = f"the table exists, and was {origin}: delete it, or choose another prefix"
        raise AlreadyExists(text, operation="RestoreTableFromBackup", table=target)
    return True


async def _start(calls: CheckedClient, target: str, arn: str) -> None:
    try:
        await calls.call(
            "RestoreTableFromBackup", table=target, TargetTableName=target, BackupArn=arn
        )
    except StoreError as error:
        # Another process restores it, or an answer was lost and the client called again.
        if error_code(error) not in _TAKEN or not await _exists(calls, target, arn):
            raise
