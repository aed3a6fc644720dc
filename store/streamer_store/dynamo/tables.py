"""Create the tables, and compare them with the schema."""

from __future__ import annotations

from typing import Any, Final

import anyio
from botocore.exceptions import ClientError

from streamer_store.dynamo import advice
from streamer_store.dynamo.client import CheckedClient
from streamer_store.engine import Difference
from streamer_store.errors import InvalidInput, StoreError, StoreUnavailable, TableMissing
from streamer_store.schema import OPTIONAL_ATTRIBUTES, TABLES, TTL_ATTRIBUTE, Index, Table

# Seconds.
_POLL_INTERVAL: Final = 0.5
_ACTIVE_TIMEOUT: Final = 300.0


async def create(calls: CheckedClient, prefix: str) -> None:
    """Create the missing tables, wait until all tables are ACTIVE, and enable TTL.

    Existing tables keep their keys and indexes: `check` reports how they differ. TTL stays off
    for a table whose key is not ours, as it would delete items that belong to someone else.
    Raises StoreUnavailable for a table that is not ACTIVE within 300 seconds.
    """
    for table in TABLES:
        if await _describe(calls, prefix + table.name) is None:
            await _create(calls, prefix, table)
    for table in TABLES:
        await _wait_until_active(calls, prefix + table.name)
        if await _has_our_key(calls, prefix, table):
            await _enable_ttl(calls, prefix + table.name)


async def check(calls: CheckedClient, prefix: str) -> list[Difference]:
    """Return every difference between the tables and the schema."""
    differences: list[Difference] = []
    for table in TABLES:
        name = prefix + table.name
        description = await _describe(calls, name)
        if description is None:
            text = "missing; `streamer-worker tables create` creates it"
            differences.append(Difference(name, text, blocking=True, creatable=True))
            continue
        wrong_key = _wrong_key(table, description)
        if wrong_key is not None:  # The table is not ours: its other properties do not matter.
            differences.append(Difference(name, wrong_key, blocking=True))
            continue
        differences += [
            Difference(name, text, blocking=True) for text in _blocking_faults(table, description)
        ]
        differences += [
            Difference(name, text, blocking=False) for text in _extra_costs(table, description)
        ]
        status = await _ttl_status(calls, name)
        if not status.startswith("ENABL"):
            text = f"TTL on attribute {TTL_ATTRIBUTE} is {status}: old items are not deleted"
            creatable = status == "DISABLED"
            differences.append(Difference(name, text, blocking=False, creatable=creatable))
        replica_warning = advice.about_replicas(description)
        if replica_warning is not None:
            differences.append(Difference(name, replica_warning, blocking=False))
    return differences


def _blocking_faults(table: Table, description: dict[str, Any]) -> list[str]:
    """Return the differences with which the worker cannot work."""
    types = _attribute_types(description)
    faults = _status_faults("", description["TableStatus"])
    indexes = _indexes_by_name(description)
    for index in table.indexes:
        described = indexes.get(index.name)
        where = f"index {index.name}"
        if described is None:
            faults.append(f"{where} is missing; {advice.about_missing_index(index)}")
            continue
        expected_key = _key_schema(index.hash_key, index.range_key)
        faults += _status_faults(f"{where}: ", described.get("IndexStatus", "ACTIVE"))
        todo = advice.about_other_index(index)
        faults += [
            f"{text}; {todo}"
            for text in _key_faults(f"{where}: ", described["KeySchema"], expected_key, types)
        ]
        projection = described["Projection"]
        if projection["ProjectionType"] == "ALL":
            continue
        if index.non_key_attributes is None:
            text = f"projection is {projection['ProjectionType']}, expected ALL"
            faults.append(f"{where}: {text}; {todo}")
        elif missing := _missing_attributes(index, projection) - OPTIONAL_ATTRIBUTES:
            text = f"projection lacks {', '.join(sorted(missing))}"
            faults.append(f"{where}: {text}; {todo}")
    return faults


def _extra_costs(table: Table, description: dict[str, Any]) -> list[str]:
    """Return the differences that work but cost more than necessary."""
    costs = []
    for name, described in _indexes_by_name(description).items():
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


def _wrong_key(table: Table, description: dict[str, Any]) -> str | None:
    """Return what is wrong with the table's own key, and what to do, or None."""
    key = description["KeySchema"]
    expected = _key_schema(table.hash_key, None)
    for text in _key_faults("", key, expected, _attribute_types(description)):
        return f"{text}; {advice.about_key(key, table.hash_key)}"
    return None


def _attribute_types(description: dict[str, Any]) -> dict[str, str]:
    return {
        definition["AttributeName"]: definition["AttributeType"]
        for definition in description["AttributeDefinitions"]
    }


def _indexes_by_name(description: dict[str, Any]) -> dict[str, Any]:
    return {index["IndexName"]: index for index in description.get("GlobalSecondaryIndexes", ())}


async def _create(calls: CheckedClient, prefix: str, table: Table) -> None:
    name = prefix + table.name
    key_names = {table.hash_key}
    for index in table.indexes:
        key_names |= {index.hash_key, *([index.range_key] if index.range_key else [])}
    arguments: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": _key_schema(table.hash_key, None),
        "AttributeDefinitions": [
            {"AttributeName": key_name, "AttributeType": "S"} for key_name in sorted(key_names)
        ],
    }
    if table.indexes:
        arguments["GlobalSecondaryIndexes"] = [_index_definition(index) for index in table.indexes]
    try:
        await calls.call("CreateTable", table=name, **arguments)
    except StoreError as error:
        if _error_code(error) != "ResourceInUseException":  # Another process has created it.
            raise


async def _wait_until_active(calls: CheckedClient, name: str) -> None:
    with anyio.move_on_after(_ACTIVE_TIMEOUT):
        while True:
            description = await _describe(calls, name)
            if description is not None and _is_active(description):
                return
            await anyio.sleep(_POLL_INTERVAL)
    raise StoreUnavailable(f"not ACTIVE within {_ACTIVE_TIMEOUT:.0f} s", table=name)


def _is_active(description: dict[str, Any]) -> bool:
    indexes = description.get("GlobalSecondaryIndexes", ())
    return description["TableStatus"] == "ACTIVE" and all(
        index.get("IndexStatus", "ACTIVE") == "ACTIVE" for index in indexes
    )


async def _has_our_key(calls: CheckedClient, prefix: str, table: Table) -> bool:
    description = await _describe(calls, prefix + table.name)
    return description is not None and _wrong_key(table, description) is None


async def _enable_ttl(calls: CheckedClient, name: str) -> None:
    if (await _ttl_status(calls, name)).startswith("ENABL"):
        return
    try:
        await calls.call(
            "UpdateTimeToLive",
            table=name,
            TableName=name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE},
        )
    except InvalidInput as error:
        # Another process has enabled it after our DescribeTimeToLive.
        if "already enabled" not in error.message:
            raise


async def _describe(calls: CheckedClient, name: str) -> dict[str, Any] | None:
    """Return DynamoDB's description of a table, or None where there is no such table."""
    try:
        answer = await calls.call("DescribeTable", table=name, TableName=name)
    except TableMissing:
        return None
    return dict(answer["Table"])


async def _ttl_status(calls: CheckedClient, name: str) -> str:
    """Return DynamoDB's status of TTL; with the attribute where that is not ours."""
    answer = await calls.call("DescribeTimeToLive", table=name, TableName=name)
    description = answer["TimeToLiveDescription"]
    status = description.get("TimeToLiveStatus", "DISABLED")
    attribute = description.get("AttributeName", TTL_ATTRIBUTE)
    return status if attribute == TTL_ATTRIBUTE else f"on attribute {attribute} ({status})"


def _error_code(error: StoreError) -> str:
    """Return DynamoDB's error code, or an empty text."""
    cause = error.__cause__
    return str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else ""


def _index_definition(index: Index) -> dict[str, Any]:
    projection: dict[str, Any] = {"ProjectionType": index.projection_type}
    if index.non_key_attributes:
        projection["NonKeyAttributes"] = list(index.non_key_attributes)
    return {
        "IndexName": index.name,
        "KeySchema": _key_schema(index.hash_key, index.range_key),
        "Projection": projection,
    }


def _key_schema(hash_key: str, range_key: str | None) -> list[dict[str, str]]:
    key = [{"AttributeName": hash_key, "KeyType": "HASH"}]
    if range_key is not None:
        key.append({"AttributeName": range_key, "KeyType": "RANGE"})
    return key


def _key_text(key: list[Any]) -> str:
    return ", ".join(f"{part['AttributeName']} ({part['KeyType']})" for part in key)
