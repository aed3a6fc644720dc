"""A backup of the four tables: DynamoDB's on-demand backups that have the same name (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from streamer_store.errors import ValidationError
from streamer_store.table_names import TableNames
from streamer_store.values import short_repr

# DynamoDB API Reference: CreateBackup, BackupName.
_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{3,255}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBackup:
    """An on-demand backup of one table."""

    table: str
    """The full name of the table."""
    arn: str
    created: datetime
    """The time of the request. The backup has all data written until a minute before it."""
    status: str
    """DynamoDB's BackupStatus: CREATING or AVAILABLE."""
    size: int | None
    """Bytes, or None while they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """The backups of the tables that have the same name. They are not of one moment."""

    name: str
    tables: tuple[TableBackup, ...]
    """The newest backup of each table that has one, in the order of the schema."""
    missing: tuple[str, ...] = ()
    """The full names of the tables that have no backup of this name."""
    older: tuple[TableBackup, ...] = ()
    """Backups of the same name and table that are not used, because there is a newer one."""

    @property
    def status(self) -> str:
        """INCOMPLETE if a table is missing. Otherwise AVAILABLE if all are, or else CREATING."""
        if self.missing:
            return "INCOMPLETE"
        return "AVAILABLE" if all(map(is_available, self.tables)) else "CREATING"

    @property
    def first(self) -> datetime:
        """When the first of the tables was backed up."""
        return min(part.created for part in self.tables)

    @property
    def last(self) -> datetime:
        """When the last of the tables was backed up."""
        return max(part.created for part in self.tables)

    @property
    def size(self) -> int:
        """Bytes of all tables, as far as they are known."""
        return sum(part.size or 0 for part in self.tables)


def check_name(name: str) -> None:
    """Raise ValidationError for a name that DynamoDB refuses."""
    if _NAME.fullmatch(name) is None:
        raise ValidationError(
            "name", f"{short_repr(name)} is not 3 to 255 characters of a-z, A-Z, 0-9, _ . and -"
        )


def is_available(part: TableBackup) -> bool:
    """Return whether the backup can be restored."""
    return part.status == "AVAILABLE"


def group(names: TableNames, name: str, parts: Iterable[TableBackup]) -> Backup:
    """Return the backup that has these parts, of these tables. There may be none."""
    newest: dict[str, TableBackup] = {}
    older = []
    for part in sorted(parts, key=lambda part: (part.created, part.arn)):
        if part.table in newest:
            older.append(newest[part.table])
        newest[part.table] = part
    return Backup(
        name=name,
        tables=tuple(newest[table] for table in names if table in newest),
        missing=tuple(table for table in names if table not in newest),
        older=tuple(older),
    )


def table_backup(table: str, details: dict[str, Any]) -> TableBackup:
    """Return the backup that BackupDetails, or a BackupSummary, describes."""
    return TableBackup(
        table=table,
        arn=details["BackupArn"],
        created=details["BackupCreationDateTime"].astimezone(UTC),
        status=details["BackupStatus"],
        size=details.get("BackupSizeBytes"),
    )
