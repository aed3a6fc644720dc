"""Making the tables, and comparing them with what is expected."""

from __future__ import annotations

from typing import Any

import anyio
from botocore.exceptions import ClientError

from streamer_store.dynamo import advice
from streamer_store.dynamo.client import CheckedClient
from streamer_store.engine import Difference
from streamer_store.errors import InvalidInput, StoreError, StoreUnavailable, TableMissing
from streamer_store.schema import OPTIONAL_ATTRIBUTES, TABLES, TTL_ATTRIBUTE, Index, Table

_POLL = 0.5
_PATIENCE = 300.0


async def create(calls: CheckedClient, prefix: str) -> None:
    """Make what is missing, wait until all are ACTIVE, switch TTL on.

    Tables that exist keep their keys and indexes: `check` tells how they differ.
    """
    for table in TABLES:
        if await _described(calls, prefix + table.name) is None:
            await _create(calls, prefix, table)
    for table in TABLES:
        await _until_active(calls, prefix + table.name)
        if await _has_our_key(calls, prefix, table):
            await _enable_ttl(calls, prefix + table.name)


async def check(calls: CheckedClient, prefix: str) -> list[Difference]:
    differences: list[Difference] = []
    for table in TABLES:
        name = prefix + table.name
        found = await _described(calls, name)
        if found is None:
            text = "missing; `streamer-worker tables create` makes it"
            differences.append(Difference(name, text, blocking=True, creatable=True))
            continue
        other_key = _other_key(table, found)
        if other_key is not None:  # then it is not ours: nothing else of it matters
            differences.append(Difference(name, other_key, blocking=True))
            continue
        differences += [Difference(name, text, blocking=True) for text in _faults(table, found)]
        differences += [Difference(name, text, blocking=False) for text in _costs(table, found)]
        status = await _ttl_status(calls, name)
        if not status.startswith("ENABL"):
            text = f"TTL on attribute {TTL_ATTRIBUTE} is {status}: nothing is cleaned up"
            creatable = status == "DISABLED"
            differences.append(Difference(name, text, blocking=False, creatable=creatable))
        replicated = advice.about_replicas(found)
        if replicated is not None:
            differences.append(Difference(name, replicated, blocking=False))
    return differences


def _faults(table: Table, found: dict[str, Any]) -> list[str]:
    """Tell what keeps the worker from working."""
    types = _types(found)
    told = _status_faults("", found["TableStatus"])
    indexes = _indexes(found)
    for index in table.indexes:
        there = indexes.get(index.name)
        where = f"index {index.name}"
        if there is None:
            told.append(f"{where} is missing; {advice.about_missing_index(index)}")
            continue
        expected = _key(index.hash_key, index.range_key)
        told += _status_faults(f"{where}: ", there.get("IndexStatus", "ACTIVE"))
        make_again = advice.about_other_index(index)
        told += [
            f"{text}; {make_again}"
            for text in _key_faults(f"{where}: ", there["KeySchema"], expected, types)
        ]
        carried = there["Projection"]
        if carried["ProjectionType"] == "ALL":
            continue
        if index.projected is None:
            text = f"projection is {carried['ProjectionType']}, expected ALL"
            told.append(f"{where}: {text}; {make_again}")
        elif missing := _missing(index, carried) - OPTIONAL_ATTRIBUTES:
            text = f"projection lacks {', '.join(sorted(missing))}"
            told.append(f"{where}: {text}; {make_again}")
    return told


def _costs(table: Table, found: dict[str, Any]) -> list[str]:
    """Tell what works and costs more than it should."""
    told = []
    for name, there in _indexes(found).items():
        index = next((each for each in table.indexes if each.name == name), None)
        if index is None:
            told.append(f"index {name} is not ours: writes to what it carries cost more")
        elif index.projected is not None:
            projection = there["Projection"]
            extra = set(projection.get("NonKeyAttributes", ())) - set(index.projected)
            if projection["ProjectionType"] == "ALL":
                told.append(
                    f"index {name}: projection is ALL, expected {index.projection}:"
                    " every progress write is paid for once more"
                )
            elif extra:
                told.append(f"index {name}: projection carries {', '.join(sorted(extra))} too")
            if missing := _missing(index, projection) & OPTIONAL_ATTRIBUTES:
                told.append(
                    f"index {name}: projection lacks {', '.join(sorted(missing))}:"
                    " a request that may have ended its workers costs one more claim"
                )
    return told


def _missing(index: Index, projection: dict[str, Any]) -> set[str]:
    """Return the attributes of ours that the projection does not have."""
    if projection["ProjectionType"] == "ALL":
        return set()
    return set(index.projected or ()) - set(projection.get("NonKeyAttributes", ()))


def _status_faults(where: str, status: str) -> list[str]:
    # While it changes its capacity, or an index is built beside, it serves as before.
    return [] if status in {"ACTIVE", "UPDATING"} else [f"{where}status is {status}, not ACTIVE"]


def _key_faults(
    where: str, found: list[Any], expected: list[dict[str, str]], types: dict[str, str]
) -> list[str]:
    if found != expected:
        return [f"{where}key is {_key_words(found)}, expected {_key_words(expected)}"]
    names = [part["AttributeName"] for part in expected]
    return [
        f"{where}key attribute {name} has type {types[name]}, not S"
        for name in names
        # Of an index that is being deleted the attributes are no longer defined.
        if types.get(name, "S") != "S"
    ]


def _other_key(table: Table, found: dict[str, Any]) -> str | None:
    """Return what is wrong with the table's own key, and what to do; None when it is ours."""
    key = found["KeySchema"]
    for text in _key_faults("", key, _key(table.hash_key, None), _types(found)):
        return f"{text}; {advice.about_key(key, table.hash_key)}"
    return None


def _types(found: dict[str, Any]) -> dict[str, str]:
    return {each["AttributeName"]: each["AttributeType"] for each in found["AttributeDefinitions"]}


def _indexes(found: dict[str, Any]) -> dict[str, Any]:
    return {each["IndexName"]: each for each in found.get("GlobalSecondaryIndexes", ())}


async def _create(calls: CheckedClient, prefix: str, table: Table) -> None:
    name = prefix + table.name
    keys = {table.hash_key}
    for index in table.indexes:
        keys |= {index.hash_key, *([index.range_key] if index.range_key else [])}
    arguments: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": _key(table.hash_key, None),
        "AttributeDefinitions": [
            {"AttributeName": key, "AttributeType": "S"} for key in sorted(keys)
        ],
    }
    if table.indexes:
        arguments["GlobalSecondaryIndexes"] = [_index(index) for index in table.indexes]
    try:
        await calls.call("CreateTable", table=name, **arguments)
    except StoreError as error:
        if _code(error) != "ResourceInUseException":  # another process has created the table
            raise


async def _until_active(calls: CheckedClient, name: str) -> None:
    with anyio.move_on_after(_PATIENCE):
        while True:
            found = await _described(calls, name)
            if found is not None and _is_active(found):
                return
            await anyio.sleep(_POLL)
    raise StoreUnavailable(f"not ACTIVE within {_PATIENCE:.0f} s", table=name)


def _is_active(found: dict[str, Any]) -> bool:
    indexes = found.get("GlobalSecondaryIndexes", ())
    return found["TableStatus"] == "ACTIVE" and all(
        each.get("IndexStatus", "ACTIVE") == "ACTIVE" for each in indexes
    )


async def _has_our_key(calls: CheckedClient, prefix: str, table: Table) -> bool:
    """Return whether the table can be ours: TTL on somebody else's would delete their items."""
    found = await _described(calls, prefix + table.name)
    return found is not None and _other_key(table, found) is None


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
        # Another process has enabled it since our DescribeTimeToLive.
        if "already enabled" not in error.message:
            raise


async def _described(calls: CheckedClient, name: str) -> dict[str, Any] | None:
    try:
        answer = await calls.call("DescribeTable", table=name, TableName=name)
    except TableMissing:
        return None
    return dict(answer["Table"])


async def _ttl_status(calls: CheckedClient, name: str) -> str:
    answer = await calls.call("DescribeTimeToLive", table=name, TableName=name)
    found = answer["TimeToLiveDescription"]
    status = found.get("TimeToLiveStatus", "DISABLED")
    attribute = found.get("AttributeName", TTL_ATTRIBUTE)
    return status if attribute == TTL_ATTRIBUTE else f"on attribute {attribute} ({status})"


def _code(error: StoreError) -> str:
    """Return DynamoDB's code of the error, or an empty text."""
    cause = error.__cause__
    return str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else ""


def _index(index: Index) -> dict[str, Any]:
    projection: dict[str, Any] = {"ProjectionType": index.projection}
    if index.projected:
        projection["NonKeyAttributes"] = list(index.projected)
    return {
        "IndexName": index.name,
        "KeySchema": _key(index.hash_key, index.range_key),
        "Projection": projection,
    }


def _key(hash_key: str, range_key: str | None) -> list[dict[str, str]]:
    key = [{"AttributeName": hash_key, "KeyType": "HASH"}]
    if range_key is not None:
        key.append({"AttributeName": range_key, "KeyType": "RANGE"})
    return key


def _key_words(key: list[Any]) -> str:
    return ", ".join(f"{part['AttributeName']} ({part['KeyType']})" for part in key)
