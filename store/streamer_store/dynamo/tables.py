"""Create the tables, and compare them with the schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio

from streamer_store.dynamo import advice, comparison, managing
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.faults import error_code
from streamer_store.engine import Difference
from streamer_store.errors import InvalidInput, StoreError, StoreUnavailable, TableMissing
from streamer_store.schema import REQUESTS, TABLES, TTL_ATTRIBUTE, Index, Table
from streamer_store.table_names import TableNames

# Seconds.
_POLL_INTERVAL: Final = 0.5
_ACTIVE_TIMEOUT: Final = 300.0
# A table that is being created may be unknown to DescribeTable for a moment.
_ABSENT_TIMEOUT: Final = 60.0
# arn:aws:dynamodb:eu-west-1:123456789012:table/streamer_requests
_ARN: Final = re.compile(r"arn:[^:]*:dynamodb:[^:]*:(\d{12}):")
_LOCAL_ACCOUNT: Final = "000000000000"

OnStatus = Callable[[str, str], object]
"""Called with the name of a table, or of its backup, and its status, each time it was read."""


def ignore_status(_name: str, _status: str) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes that `create` has made. Each list has full names of tables."""

    created: list[str] = field(default_factory=list)
    indexed: list[str] = field(default_factory=list)
    """The tables that existed, and got an optional index."""
    ttl_enabled: list[str] = field(default_factory=list)
    slim_indexes: list[str] = field(default_factory=list)
    """The indexes that existed without projection ALL, where it was asked for. Each is an index and
    its table: `StatusIndex of streamer_requests`."""


async def create(
    calls: CheckedClient, names: TableNames, *, full_projection: bool = False
) -> Changes:
    """Create the missing tables and optional indexes, wait until all are ACTIVE, and enable TTL.

    Existing tables keep their keys and their other indexes: `check` reports how they differ. A
    table whose key is not ours is left alone: TTL would delete items that belong to someone else.

    `full_projection`: create tables whose ConnectionIndex and StatusIndex have all attributes, for
    programs that read the index alone, as the Go store does. Each write of a request then also
    writes to both. The indexes of existing tables are not changed.

    Raises StoreUnavailable for a table that is not ACTIVE within 300 seconds, and TableMissing
    for one that was deleted meanwhile.
    """
    created = [
        names.of(table)
        for table in TABLES
        if await describe(calls, names.of(table)) is None
        and await _create(calls, names.of(table), table, full_projection=full_projection)
    ]
    changes = replace(await complete(calls, names), created=created)
    if full_projection:
        changes.slim_indexes.extend(await _slim_indexes(calls, names))
    return changes


async def complete(
    calls: CheckedClient,
    names: TableNames,
    *,
    timeout: float = _ACTIVE_TIMEOUT,  # noqa: ASYNC109  for each table, not for the call
    on_status: OnStatus = ignore_status,
) -> Changes:
    """Wait until the tables are ACTIVE, add the optional indexes they lack, and enable TTL.

    A table whose key is not ours is left alone. Raises StoreUnavailable for a table that is not
    ACTIVE within `timeout` seconds, and TableMissing for one that does not exist for a minute.
    """
    changes = Changes()
    for table in TABLES:
        name = names.of(table)
        description = await wait_until_active(calls, name, timeout=timeout, on_status=on_status)
        if comparison.wrong_key(table, description) is None:
            if await _add_optional_indexes(calls, name, table, description):
                changes.indexed.append(name)
                await wait_until_active(calls, name, timeout=timeout, on_status=on_status)
            if await _enable_ttl(calls, name):
                changes.ttl_enabled.append(name)
    return changes


async def has_index(calls: CheckedClient, names: TableNames, table: Table, index: Index) -> bool:
    """Return whether the table has this index, ACTIVE and as in the schema."""
    description = await describe(calls, names.of(table))
    return description is not None and not comparison.index_faults(index, description)


async def check(calls: CheckedClient, names: TableNames) -> list[Difference]:
    """Return every difference between the tables and the schema."""
    differences: list[Difference] = []
    for table in TABLES:
        name = names.of(table)
        description = await describe(calls, name)
        if description is None:
            text = "missing; `streamer-worker tables create` creates it"
            differences.append(Difference(name, text, blocking=True, creatable=True))
            continue
        wrong_key = comparison.wrong_key(table, description)
        if wrong_key is not None:  # The table is not ours: its other properties do not matter.
            differences.append(Difference(name, wrong_key, blocking=True))
            continue
        differences += [
            Difference(name, text, blocking=True)
            for text in comparison.blocking_faults(table, description)
        ]
        differences += comparison.optional_differences(table, description)
        differences += [
            Difference(name, text, blocking=False)
            for text in comparison.extra_costs(table, description)
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


async def _create(calls: CheckedClient, name: str, table: Table, *, full_projection: bool) -> bool:
    """Return whether the table was created here, and not by another process."""
    key_names = {table.hash_key}
    for index in table.indexes:
        key_names |= set(index.key_names)
    arguments: dict[str, Any] = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": comparison.key_schema(table.hash_key, None),
        "AttributeDefinitions": [
            {"AttributeName": key_name, "AttributeType": "S"} for key_name in sorted(key_names)
        ],
    }
    if table.indexes:
        indexes = map(_full, table.indexes) if full_projection else table.indexes
        arguments["GlobalSecondaryIndexes"] = list(map(_index_definition, indexes))
    try:
        await calls.call("CreateTable", table=name, **arguments)
    except StoreError as error:
        if error_code(error) != "ResourceInUseException":  # Another process has created it.
            raise
        return False
    return True


def _full(index: Index) -> Index:
    """Return the index with projection ALL, unless it is one that only workers of ours read."""
    return index if index.optional else replace(index, non_key_attributes=None)


async def _slim_indexes(calls: CheckedClient, names: TableNames) -> list[str]:
    """Return the indexes that `full_projection` could not change (see Changes)."""
    indexes = comparison.indexes_by_name(await describe(calls, names.requests) or {})
    return [
        f"{index.name} of {names.requests}"
        for index in REQUESTS.indexes
        if not index.optional
        and index.name in indexes
        and indexes[index.name]["Projection"]["ProjectionType"] != "ALL"
    ]


async def _add_optional_indexes(
    calls: CheckedClient, name: str, table: Table, description: dict[str, Any]
) -> bool:
    """Add the optional indexes that an existing table lacks. Return whether there were any.

    DynamoDB adds an index while the table serves: writes go on, and their old items follow.
    """
    missing = [
        index
        for index in table.indexes
        if index.optional and index.name not in comparison.indexes_by_name(description)
    ]
    for index in missing:
        try:
            await calls.call("UpdateTable", table=name, **_index_addition(name, index, description))
        except StoreError:
            # Another process has added it after our DescribeTable.
            if index.name not in comparison.indexes_by_name(await describe(calls, name) or {}):
                raise
    return bool(missing)


def _index_addition(name: str, index: Index, description: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of UpdateTable that add an index to a table."""
    definition = _index_definition(index)
    capacity = description.get("ProvisionedThroughput", {})
    if capacity.get("ReadCapacityUnits"):  # Not an on-demand table: the index gets as much.
        units = ("ReadCapacityUnits", "WriteCapacityUnits")
        definition["ProvisionedThroughput"] = {unit: capacity[unit] for unit in units}
    types = comparison.attribute_types(description) | dict.fromkeys(index.key_names, "S")
    return {
        "TableName": name,
        "AttributeDefinitions": [
            {"AttributeName": attribute, "AttributeType": kind}
            for attribute, kind in sorted(types.items())
        ],
        "GlobalSecondaryIndexUpdates": [{"Create": definition}],
    }


async def wait_until_active(
    calls: CheckedClient,
    name: str,
    *,
    timeout: float = _ACTIVE_TIMEOUT,  # noqa: ASYNC109  its error says which table
    on_status: OnStatus = ignore_status,
) -> dict[str, Any]:
    """Return the description of the table once the table and all its indexes are ACTIVE.

    Raises StoreUnavailable after `timeout` seconds, and TableMissing if there is no such table
    for a minute.
    """
    started = last_seen = anyio.current_time()
    with anyio.move_on_after(timeout):
        while True:
            description = await describe(calls, name)
            status = "absent" if description is None else _status(description)
            on_status(name, status)
            if description is not None and status == "ACTIVE":
                return description
            now = anyio.current_time()
            last_seen = last_seen if description is None else now
            if now - last_seen > _ABSENT_TIMEOUT:
                raise TableMissing("the table does not exist, or was deleted meanwhile", table=name)
            await anyio.sleep(managing.poll_pause(now - started, shortest=_POLL_INTERVAL))
    raise StoreUnavailable(f"not ACTIVE within {timeout:g} s", table=name)


def _status(description: dict[str, Any]) -> str:
    """Return ACTIVE if the table and all its indexes are, and otherwise what is not."""
    for index in description.get("GlobalSecondaryIndexes", ()):
        status = index.get("IndexStatus", "ACTIVE")
        if description["TableStatus"] == "ACTIVE" and status != "ACTIVE":
            return f"index {index['IndexName']} {status}"
    return str(description["TableStatus"])


async def _enable_ttl(calls: CheckedClient, name: str) -> bool:
    """Return whether TTL was off, and was enabled here."""
    if (await _ttl_status(calls, name)).startswith("ENABL"):
        return False
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
        return False
    return True


async def account(calls: CheckedClient, names: TableNames) -> str | None:
    """Return the id of the AWS account that has the table of requests. None: there is none."""
    description = await describe(calls, names.requests) or {}
    arn = _ARN.match(str(description.get("TableArn", "")))
    return arn[1] if arn is not None and arn[1] != _LOCAL_ACCOUNT else None


async def describe(calls: CheckedClient, name: str) -> dict[str, Any] | None:
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


def _index_definition(index: Index) -> dict[str, Any]:
    projection: dict[str, Any] = {"ProjectionType": index.projection_type}
    if index.non_key_attributes:
        projection["NonKeyAttributes"] = list(index.non_key_attributes)
    return {
        "IndexName": index.name,
        "KeySchema": comparison.key_schema(index.hash_key, index.range_key),
        "Projection": projection,
    }
