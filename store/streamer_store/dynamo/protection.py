"""Point-in-time recovery and deletion protection of the four tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import anyio

from streamer_store.dynamo import comparison, managing, tables
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.faults import error_code
from streamer_store.errors import StoreError, TableMissing
from streamer_store.schema import TABLES
from streamer_store.table_names import TableNames

# Seconds. DynamoDB makes one change of a table at a time.
_UPDATE_TIMEOUT: Final = 300.0
_POLL_INTERVAL: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What protects a table against the loss of its items."""

    table: str
    """The full name of the table."""
    point_in_time_recovery: bool | None
    """Whether it is on. None: not known."""
    recovery_days: int | None = None
    """How many days back the table can be restored. None: it is off, or not known."""
    deletion_protection: bool
    not_known: str = ""
    """Why it is not known whether point-in-time recovery is on."""

    def __str__(self) -> str:
        return (
            f"point-in-time recovery: {self._recovery_text()};"
            f" deletion protection: {'on' if self.deletion_protection else 'off'}"
        )

    def _recovery_text(self) -> str:
        if self.point_in_time_recovery is None:
            return f"not known: {self.not_known}"
        if not self.point_in_time_recovery:
            return "off"
        return "on" if self.recovery_days is None else f"on, {self.recovery_days} days"


async def read(calls: CheckedClient, names: TableNames) -> list[Protection]:
    """Return how each of the tables that exist is protected.

    Whether point-in-time recovery is on is not known where DescribeContinuousBackups fails. It is
    not in a worker's policy, and DynamoDB Local does not have it.
    """
    found = []
    for table in TABLES:
        name = names.of(table)
        description = await tables.describe(calls, name)
        if description is not None:
            found.append(await _read_one(calls, name, description))
    return found


async def enable(calls: CheckedClient, names: TableNames) -> list[str]:
    """Enable point-in-time recovery and deletion protection on the tables. Return their names.

    A recovery period that is set already is kept. DynamoDB's default is 35 days. A table whose
    key is not ours is left alone. Raises TableMissing before anything is changed, and
    StoreUnavailable for a table that is not ACTIVE within 300 seconds, or for which DynamoDB
    does not allow backups within ten minutes.
    """
    ours = []
    missing = []
    for table in TABLES:
        name = names.of(table)
        description = await tables.describe(calls, name)
        if description is None:
            missing.append(name)
        elif comparison.wrong_key(table, description) is None:
            ours.append(name)
    if missing:
        text = f"nothing was protected, because tables are missing: {', '.join(missing)}"
        raise TableMissing(text, operation="UpdateTable")

    async def enable_one(name: str) -> None:
        await _enable_recovery(calls, name)
        await _enable_deletion_protection(calls, name)

    await managing.for_all(ours, enable_one)
    return ours


async def _read_one(calls: CheckedClient, name: str, description: dict[str, Any]) -> Protection:
    protected = bool(description.get("DeletionProtectionEnabled", False))
    try:
        recovery = await _recovery(calls, name)
    except StoreError as error:
        return Protection(
            table=name,
            point_in_time_recovery=None,
            deletion_protection=protected,
            not_known=error.message,
        )
    enabled = recovery.get("PointInTimeRecoveryStatus") == "ENABLED"
    return Protection(
        table=name,
        point_in_time_recovery=enabled,
        recovery_days=recovery.get("RecoveryPeriodInDays") if enabled else None,
        deletion_protection=protected,
    )


async def _recovery(calls: CheckedClient, name: str) -> dict[str, Any]:
    """Return DynamoDB's PointInTimeRecoveryDescription."""
    answer = await calls.call("DescribeContinuousBackups", table=name, TableName=name)
    description = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription")
    return dict(description or {})


async def _enable_recovery(calls: CheckedClient, name: str) -> None:
    if (await _recovery(calls, name)).get("PointInTimeRecoveryStatus") == "ENABLED":
        return
    await managing.retry_until_enabled(
        calls,
        "UpdateContinuousBackups",
        table=name,
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
    )


async def _enable_deletion_protection(calls: CheckedClient, name: str) -> None:
    deadline = anyio.current_time() + _UPDATE_TIMEOUT
    while True:
        description = await tables.wait_until_active(calls, name)
        if description.get("DeletionProtectionEnabled"):
            return
        try:
            await calls.call(
                "UpdateTable", table=name, TableName=name, DeletionProtectionEnabled=True
            )
        except StoreError as error:
            # Another process changes the table since our DescribeTable.
            is_busy = error_code(error) == "ResourceInUseException"
            if not is_busy or anyio.current_time() >= deadline:
                raise
        else:
            return
        await anyio.sleep(_POLL_INTERVAL)
