"""What to do about a table that differs, and about one that is replicated (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from streamer_store.schema import Index

_OTHER_PREFIX: Final = (
    "a table's key cannot be changed in place: choose another table prefix"
    " (STREAMER_TABLE_PREFIX), or delete this table with all its items, and then run"
    " `streamer-worker tables create`"
)
_GO: Final = (
    "this is the layout of a later release of the Go implementation, whose items cannot be read"
    " here (v1.0.0 has the same layout as this worker)"
)


def about_key(found: Iterable[Any], expected: str) -> str:
    """Return what to do about a table that has another key than `expected`, a hash key."""
    names = [part["AttributeName"] for part in found]
    return f"{_GO}; {_OTHER_PREFIX}" if _is_of_go(names, expected) else _OTHER_PREFIX


def about_missing_index(index: Index) -> str:
    return (
        f"`tables create` does not change a table that exists: add the index with UpdateTable,"
        f" {_described(index)}"
    )


def about_other_index(index: Index) -> str:
    return (
        "an index cannot be changed in place: delete it with UpdateTable, then add it again,"
        f" {_described(index)}"
    )


def about_replicas(found: dict[str, Any]) -> str | None:
    """Return a warning when the table, as DescribeTable has it, is a global one.

    Its writes in two Regions do not see each other's conditions, unless it is strongly
    consistent over all of them.
    """
    regions = sorted(each.get("RegionName", "?") for each in found.get("Replicas", ()))
    if not (regions or "GlobalTableVersion" in found):
        return None
    if found.get("MultiRegionConsistency") == "STRONG":
        return None
    where = f" (replicas: {', '.join(regions)})" if regions else ""
    return (
        f"it is a global table{where}: a claim is exclusive only inside one Region."
        " Run workers in one Region only, or requests run twice"
    )


def _is_of_go(names: list[str], expected: str) -> bool:
    """Return whether the key is PK and SK, or our own in snake_case."""
    plain = [name.replace("_", "").lower() for name in names]
    return plain[0] == "pk" or (names[0] != expected and plain[0] == expected.lower())


def _described(index: Index) -> str:
    key = f"key {index.hash_key} (HASH)"
    if index.range_key is not None:
        key += f", {index.range_key} (RANGE)"
    carried = f" {', '.join(index.projected)}" if index.projected else ""
    return f"{key}, projection {index.projection}{carried}"
