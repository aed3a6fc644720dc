"""What an export and an import report, and the choices of an import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Existing(StrEnum):
    """What an import does with an item of the export that exists and differs."""

    REFUSE = "refuse"
    """Raise AlreadyExists before anything is written."""
    SKIP = "skip"
    """Keep the item that exists."""
    REPLACE = "replace"
    """Overwrite it, unless it changes at the same moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far an export or an import is with one table."""

    step: str
    """`export`, `verify`, `compare` or `write`. An import does the last three, in this order."""
    table: str
    """The name of the table, without the prefix."""
    items: int
    """How many items of the table are done in this step."""
    total: int | None = None
    """How many there are. None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A whole export."""

    target: str
    """The directory, or the address in S3."""
    items: Mapping[str, int]
    """The number of items of each table."""
    parts: int
    """The number of files with items."""
    bytes: int
    """The size of these files."""
    resumed: bool
    """Whether the export continued one that was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What an import will do, after all checks and before the first write."""

    target: str
    """The directory, or the address in S3."""
    items: Mapping[str, int]
    """The number of items of each table in the export."""
    not_empty: tuple[str, ...]
    """The tables that have items, as full names."""
    expired: int
    """How many items DynamoDB will delete soon, because their TTL is in the past."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of the items of an export."""

    target: str
    """The directory, or the address in S3."""
    written: int
    """Items that did not exist, and were written."""
    unchanged: int
    """Items that existed and are equal, for example because an earlier import wrote them."""
    replaced: int
    """Items that existed, differed and were overwritten."""
    skipped: int
    """Items that existed, differed and were kept, as `Existing.SKIP` says."""
    refused: int
    """Items that were written by others during the import, and kept."""
    refused_keys: tuple[str, ...]
    """The first 100 of them, each as the full name of its table, `/`, and its id."""
    released: int
    """Items that were PROCESSING in the export and are waiting here."""
    expired: int
    """How many items DynamoDB will delete soon, because their TTL is in the past."""
