"""How a table's description differs from the schema (pure).

A description is the answer of DescribeTable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streamer_store.dynamo import advice
from streamer_store.engine import Difference
from streamer_store.schema import OPTIONAL_ATTRIBUTES, Index, Table


def blocking_faults(table: Table, description: dict[str, Any]) -> list[str]:
    """Return the differences with which the worker cannot work."""
    faults = _status_faults("", description["TableStatus"])
    for index in table.indexes:
        if not index.optional:
            faults += index_faults(index, description)
    return faults


def index_faults(index: Index, description: dict[str, Any]) -> list[str]:
    """Return the differences with which the index cannot be used."""
    described = indexes_by_name(description).get(index.name)
    where = f"index {index.name}"
    if described is None:
        return [f"{where} is missing; {advice.about_missing_index(index)}"]
    faults = _status_faults(f"{where}: ", described.get("IndexStatus", "ACTIVE"))
    todo = advice.about_other_index(index)
    faults += [
        f"{text}; {todo}"
        for text in _key_faults(
            f"{where}: ",
            described["KeySchema"],
            key_schema(index.hash_key, index.range_key),
            attribute_types(description),
        )
    ]
    projection = described["Projection"]
    if projection["ProjectionType"] == "ALL":
        return faults
    if index.non_key_attributes is None:
        text = f"projection is {projection['ProjectionType']}, expected ALL"
        faults.append(f"{where}: {text}; {todo}")
    elif missing := _missing_attributes(index, projection) - OPTIONAL_ATTRIBUTES:
        text = f"projection lacks {', '.join(sorted(missing))}"
        faults.append(f"{where}: {text}; {todo}")
    return faults


def optional_differences(table: Table, description: dict[str, Any]) -> Iterator[Difference]:
    """Yield why optional indexes cannot be used. The worker then works without them."""
    indexes = indexes_by_name(description)
    for index in table.indexes:
        if index.optional:
            missing = index.name not in indexes
            for fault in index_faults(index, description):
                text = f"{fault}; until then {advice.WITHOUT_DUE_INDEX}"
                yield Difference(description["TableName"], text, blocking=False, creatable=missing)


def extra_costs(table: Table, description: dict[str, Any]) -> list[str]:
    """Return the differences that work but cost more than necessary."""
    costs = []
    for name, described in indexes_by_name(description).items():
        index = next((index for index in table.indexes if index.name == name), None)
        if index is None:
            costs.append(f"index {name} is not used by the worker: it makes writes more expensive")
        elif index.non_key_attributes is not None:
            projection = described["Projection"]
            extra = set(projection.get("NonKeyAttributes", ())) - set(index.non_key_attributes)
            if projection["ProjectionType"] == "ALL":
                costs.append(
                    f"index {name}: projection is ALL, expected {index.projection_type}:"
                    " every progress write also writes to the index"
                )
            elif extra:
                costs.append(
                    f"index {name}: projection has attributes that are not used:"
                    f" {', '.join(sorted(extra))}"
                )
            if missing := _missing_attributes(index, projection) & OPTIONAL_ATTRIBUTES:
                costs.append(
                    f"index {name}: projection lacks {', '.join(sorted(missing))}:"
                    " a request that may have ended its workers costs one more claim"
                )
    return costs


def _missing_attributes(index: Index, projection: dict[str, Any]) -> set[str]:
    """Return the attributes of the schema that the projection lacks."""
    if projection["ProjectionType"] == "ALL":
        return set()
    return set(index.non_key_attributes or ()) - set(projection.get("NonKeyAttributes", ()))


def _status_faults(where: str, status: str) -> list[str]:
    # A table serves while its capacity changes or an index is added (UPDATING).
    return [] if status in {"ACTIVE", "UPDATING"} else [f"{where}status is {status}, not ACTIVE"]


def _key_faults(
    where: str, key: list[Any], expected: list[dict[str, str]], types: dict[str, str]
) -> list[str]:
    if key != expected:
        return [f"{where}key is {_key_text(key)}, expected {_key_text(expected)}"]
    names = [part["AttributeName"] for part in expected]
    return [
        f"{where}key attribute {name} has type {types[name]}, not S"
        for name in names
        # The attributes of an index that is being deleted are no longer defined.
        if types.get(name, "S") != "S"
    ]


def wrong_key(table: Table, description: dict[str, Any]) -> str | None:
    """Return what is wrong with the table's own key, and what to do, or None."""
    key = description["KeySchema"]
    expected = key_schema(table.hash_key, None)
    for text in _key_faults("", key, expected, attribute_types(description)):
        return f"{text}; {advice.about_key(key, table.hash_key)}"
    return None


def attribute_types(description: dict[str, Any]) -> dict[str, str]:
    """Return the types of the attributes that are keys of the table or of its indexes."""
    return {
        definition["AttributeName"]: definition["AttributeType"]
        for definition in description["AttributeDefinitions"]
    }


def indexes_by_name(description: dict[str, Any]) -> dict[str, Any]:
    """Return the descriptions of the table's indexes."""
    return {index["IndexName"]: index for index in description.get("GlobalSecondaryIndexes", ())}


def key_schema(hash_key: str, range_key: str | None) -> list[dict[str, str]]:
    """Return a KeySchema."""
    key = [{"AttributeName": hash_key, "KeyType": "HASH"}]
    if range_key is not None:
        key.append({"AttributeName": range_key, "KeyType": "RANGE"})
    return key


def _key_text(key: list[Any]) -> str:
    return ", ".join(f"{part['AttributeName']} ({part['KeyType']})" for part in key)
