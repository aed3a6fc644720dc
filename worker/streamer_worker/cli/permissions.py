"""Tries each call that a worker makes, for `check`."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Final

from streamer_store import AccessDenied, InvalidInput, StoreError, TableMissing
from streamer_store.clock import new_id
from streamer_store.conditions import Present
from streamer_store.engine import (
    BatchEngine,
    ConditionFailed,
    Delete,
    Put,
    Query,
    Refusal,
    Scan,
    Update,
)
from streamer_store.schema import CONNECTIONS, REQUESTS, SUBSCRIPTIONS, WORKERS, Table
from streamer_worker.cli.findings import Finding, store_failure

# The DynamoDB operations that a worker calls on each table. A Query names its index. check_tables
# calls DescribeTable and DescribeTimeToLive. The policies in deploy/iam/ allow the same
# operations, and tests/integration/test_policy.py observes workers calling each of them.
CALLS: Final[dict[Table, tuple[str, ...]]] = {
    REQUESTS: (
        *("GetItem", "BatchGetItem", "UpdateItem", "PartiQLUpdate"),
        *("Query StatusIndex", "Query DueIndex"),
    ),
    CONNECTIONS: (
        *("GetItem", "BatchGetItem", "DeleteItem", "Scan"),
        *("Query UserIndex", "Query TenantIndex"),
    ),
    SUBSCRIPTIONS: ("Query ConnectionIndex", "Query RequestIndex", "BatchWriteItem", "Scan"),
    WORKERS: ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Scan"),
}
# Without these, a worker does not send writes together. It then needs more CPU.
_FOR_BATCHES: Final = {(REQUESTS, "BatchGetItem"), (REQUESTS, "PartiQLUpdate")}
# Operations that a worker works without, and what `check` adds to its advice about each.
_OPTIONAL: Final = (
    dict.fromkeys(
        _FOR_BATCHES, ", or set batch_writes to false: the worker needs it to use less CPU"
    )
    | {(SUBSCRIPTIONS, "Scan"): ": without it, every message needs a Query of the subscriptions"}
    | {
        (CONNECTIONS, "Query UserIndex"): ": handlers need it for ctx.broadcast(..., user=...)",
        (CONNECTIONS, "Query TenantIndex"): ": handlers need it for ctx.broadcast(..., tenant=...)",
    }
)


async def permission_findings(engine: BatchEngine, *, batches: bool) -> AsyncIterator[Finding]:
    """Yield a finding for each call that is denied, or one if none is.

    batches: whether the worker sends writes together.
    """
    refused = False
    tried = 0
    for table, calls in CALLS.items():
        name = engine.table_name(table)
        for call in calls:
            if (table, call) in _FOR_BATCHES and not batches:
                continue
            tried += 1
            try:
                await _try(engine, call, table)
            except ConditionFailed:
                pass  # the call is allowed
            except TableMissing:
                # _tables has reported it.
                refused = refused or not _is_optional(call, table)
            except AccessDenied as error:
                refused = True
                yield _denied(table, name, call, error)
            except StoreError as error:
                if _is_optional(call, table) and isinstance(error, InvalidInput):
                    continue  # The index is being built, as _tables has reported.
                yield store_failure("permissions", error)
                return
    if not refused:
        yield Finding("ok", "permissions", f"all {tried} operations on the tables are allowed")


def _denied(table: Table, name: str, call: str, error: AccessDenied) -> Finding:
    """Return the finding for a call that is not allowed on the table of this name."""
    operation, _, index = call.partition(" ")
    where = f"table/{name}/index/{index}" if index else f"table/{name}"
    todo = f"allow dynamodb:{operation} on {where}"
    text = f"{name}: {call}: {error.message}"
    todo += _OPTIONAL.get((table, call), "")
    optional = (table, call) in _OPTIONAL or _is_optional(call, table)
    return Finding("warning" if optional else "error", "permissions", text, todo)


def _is_optional(call: str, table: Table) -> bool:
    """Return whether the call reads an index that a worker can do without."""
    name = call.partition(" ")[2]
    return any(index.name == name and index.optional for index in table.indexes)


async def _try(engine: BatchEngine, call: str, table: Table) -> None:
    """Make a call that changes nothing. Raises ConditionFailed, and all that the engine raises."""
    absent_key = new_id(random.SystemRandom())
    impossible = (Present("NeverThere"),)
    match call:
        case "GetItem":
            await engine.get(table, absent_key)
        case "BatchGetItem":
            await engine.get_many(table, [absent_key])
        case "PutItem":
            item = {table.hash_key: {"S": absent_key}}
            await engine.put(Put(table=table, item=item, conditions=impossible))
        case "UpdateItem":
            sets = {"NeverThere": {"BOOL": True}}
            await engine.update(
                Update(table=table, key=absent_key, sets=sets, conditions=impossible)
            )
        case "PartiQLUpdate":
            write = Update(
                table=table,
                key=absent_key,
                sets={"Version": {"S": absent_key}},
                conditions=impossible,
            )
            if await engine.write_many([write]) == [Refusal.DENIED]:
                raise AccessDenied("a statement was denied", operation="BatchExecuteStatement")
        case "DeleteItem":
            await engine.delete(Delete(table=table, key=absent_key, conditions=impossible))
        case "BatchWriteItem":
            await engine.delete_many(table, [absent_key])
        case "Scan":
            await engine.scan(Scan(table=table, limit=1))
        case _:
            index = table.index(call.partition(" ")[2])
            await engine.query(Query(table=table, index=index, value=absent_key, limit=1))
