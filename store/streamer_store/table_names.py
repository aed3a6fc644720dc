"""The names of the four tables (pure)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from streamer_store.errors import ValidationError
from streamer_store.schema import TABLES, Table
from streamer_store.values import short_repr

DEFAULT_PREFIX: Final = "streamer_"
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}", re.ASCII)
# DynamoDB API Reference: CreateTable, TableName.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableNames:
    """The full names of the four tables of a deployment.

    >>> names = TableNames.from_prefix("prod_", {"requests": "jobs"})
    >>> names.requests, names.workers
    ('jobs', 'prod_workers')
    """

    connections: str
    requests: str
    subscriptions: str
    workers: str

    @classmethod
    def from_prefix(cls, prefix: str, own_names: Mapping[str, str] | None = None) -> TableNames:
        """Return the names of tables with this prefix, such as `prod_requests` for `prod_`.

        `own_names`: full names for tables without the prefix, such as `{"requests": "jobs"}`.

        Raises ValidationError with every fault: a prefix or a name that DynamoDB refuses, a table
        that does not exist, one name for two tables.
        """
        own_names = own_names or {}
        faults = list(_faults(prefix, own_names))
        if not faults:
            names = {table.name: prefix + table.name for table in TABLES} | dict(own_names)
            faults = list(_shared(names))
        if faults:
            raise ValidationError("table names", "; ".join(faults))
        return cls(**names)

    @property
    def prefix(self) -> str | None:
        """The prefix of all names. None: they have none in common."""
        prefix = self.workers.removesuffix("workers")
        whole = (prefix + table.name == self.of(table) for table in TABLES)
        return prefix if all(whole) else None

    def of(self, table: Table) -> str:
        """Return the full name of a table."""
        name: str = getattr(self, table.name)
        return name

    def as_dict(self) -> dict[str, str]:
        """Return the full names, by the name of the table without a prefix."""
        return asdict(self)

    def __iter__(self) -> Iterator[str]:
        """Yield the full names, in the order of the schema."""
        return map(self.of, TABLES)

    def __str__(self) -> str:
        """Return the prefix with an ellipsis, or the four names if they have no prefix."""
        prefix = self.prefix
        return ", ".join(self) if prefix is None else f"{prefix}…"


def check_prefix(prefix: str) -> None:
    """Raise ValidationError for an empty prefix, and one that `table_prefix` would refuse."""
    if _PREFIX.fullmatch(prefix) is None:
        text = f"{short_repr(prefix)} is not 1 to 200 characters of A-Z, a-z, 0-9, _ . and -"
        raise ValidationError("prefix", text)


def _faults(prefix: str, own_names: Mapping[str, str]) -> Iterator[str]:
    known = [table.name for table in TABLES]
    try:
        if prefix:  # an empty one is no fault here
            check_prefix(prefix)
    except ValidationError as error:
        yield error.message
    for table, name in own_names.items():
        if table not in known:
            (nearest,) = difflib.get_close_matches(table, known, n=1, cutoff=0.0)
            yield f"{short_repr(table)} is no table; the nearest is {nearest}"
        elif _NAME.fullmatch(name) is None:
            text = "is not 3 to 255 characters of A-Z, a-z, 0-9, _ . and -"
            yield f"{table}: {short_repr(name)} {text}"


def _shared(names: Mapping[str, str]) -> Iterator[str]:
    """Yield a fault for each name that several tables have."""
    for name in dict.fromkeys(names.values()):
        tables = [table for table in names if names[table] == name]
        if len(tables) > 1:
            yield f"{' and '.join(tables)} have one name, {name}: give each a name of its own"


DEFAULT_NAMES: Final = TableNames.from_prefix(DEFAULT_PREFIX)
