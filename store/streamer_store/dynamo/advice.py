"""What to do about a table that differs from the schema (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from streamer_store.schema import Index

_OTHER_TABLE: Final = (
    "a table's key cannot be changed in place: choose another table prefix"
    " (STREAMER_TABLE_PREFIX) or another name for it (STREAMER_TABLE_NAMES_…), or delete this table"
    " with all its items, and then run `streamer-worker tables create`"
)
WITHOUT_DUE_INDEX: Final = (
    "every poll reads all requests that wait for later, which costs read units and CPU"
)
_GO_LAYOUT: Final = (
    "this is the layout of a later release of the Go implementation, whose items cannot be read"
    " here (v1.0.0 has the same layout as this worker)"
)


def about_key(key: Iterable[Any], expected: str) -> str:
    """Return what to do about a table with the wrong key.

    `key` is its KeySchema, `expected` the name of the hash key that it must have.
    """
    names = [part["AttributeName"] for part in key]
    return f"{_GO_LAYOUT}; {_OTHER_TABLE}" if _is_go_key(names, expected) else _OTHER_TABLE


def about_missing_index(index: Index) -> str:
    """Return what to do about a table without this index."""
    if index.optional:
        return f"`streamer-worker tables create` adds it, {_definition(index)}"
    return (
        f"`tables create` does not add it to a table that exists: add it with UpdateTable,"
        f" {_definition(index)}"
    )


def about_other_index(index: Index) -> str:
    """Return what to do about an index with another key or projection."""
    return (
        "an index cannot be changed in place: delete it with UpdateTable, then add it again,"
        f" {_definition(index)}"
    )


def about_replicas(description: dict[str, Any]) -> str | None:
    """Return a warning about a global table, or None for other tables.

    `description` is the answer of DescribeTable. A conditional write in one Region does not see
    the writes in another, unless the table has multi-Region strong consistency.
    """
    regions = sorted(replica.get("RegionName", "?") for replica in description.get("Replicas", ()))
    if not (regions or "GlobalTableVersion" in description):
        return None
    if description.get("MultiRegionConsistency") == "STRONG":
        return None
    where = f" (replicas: {', '.join(regions)})" if regions else ""
    return (
        f"it is a global table{where}: a claim is exclusive only inside one Region."
        " Run workers in one Region only, or requests run twice"
    )


def _is_go_key(names: list[str], expected: str) -> bool:
    """Whether the key is PK and SK, or the expected key in snake_case."""
    first = names[0].replace("_", "").lower()
    return first == "pk" or (names[0] != expected and first == expected.lower())


def _definition(index: Index) -> str:
    key = f"key {index.hash_key} (HASH)"
    if index.range_key is not None:
        key += f", {index.range_key} (RANGE)"
    attributes = f" {', '.join(index.non_key_attributes)}" if index.non_key_attributes else ""
    return f"{key}, projection {index.projection_type}{attributes}"
