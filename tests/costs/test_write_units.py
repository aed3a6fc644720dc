"""The write units that bulk operations reckon with are those that DynamoDB Local charges."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import (
    AsyncRequest,
    CallEnded,
    Priority,
    RequestStatus,
    Stores,
    SystemClock,
    TryFailed,
    open_stores,
)
from streamer_store.schema import CONNECTIONS, REQUESTS, Table
from streamer_store.write_units import write_units
from support import START, connection, unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"}
LARGE = {"text": "x" * 5_000}
CONNECTION = connection("c1", connected_at=START)

Step = tuple[Table, str, Callable[[Stores], Awaitable[Any]]]


def enqueue(request_id: str, **fields: Any) -> Step:
    request = AsyncRequest(action="echo", request_id=request_id, **fields)
    return REQUESTS, request_id, lambda stores: stores.requests.enqueue_many([request])


def requests(request_id: str, method: str, **options: Any) -> Step:
    def call(stores: Stores) -> Awaitable[Any]:
        bulk: Awaitable[Any] = getattr(stores.requests, method)([request_id], **options)
        return bulk

    return REQUESTS, request_id, call


STEPS: dict[str, Step] = {
    "a small request": enqueue("small"),
    "one of a connection": enqueue("connected", connection_id="c1", tenant_id="t1"),
    "a large one": enqueue("large", connection_id="c1", payload=LARGE),
    "a low one": enqueue("low", priority=Priority.LOW),
    "one that runs later": enqueue("later", retry_after=SystemClock().now() + timedelta(hours=1)),
    "cancel the small one": requests("small", "cancel_many"),
    "cancel the large one": requests("large", "cancel_many"),
    "cancel the low one": requests("low", "cancel_many"),
    "redrive the large one": requests("large", "redrive_many"),
    "redrive the low one": requests("low", "redrive_many"),
    "delete the small one": requests("small", "delete_many"),
    "delete the large one": requests("large", "delete_many", statuses=[RequestStatus.PENDING]),
    "a connection": (CONNECTIONS, "c1", lambda stores: stores.connections.save_many([CONNECTION])),
    "the same with another user": (
        CONNECTIONS,
        "c2",
        lambda stores: stores.connections.save_many(
            [replace(CONNECTION, connection_id="c2", user_id="u2")]
        ),
    ),
    "no connection": (CONNECTIONS, "c1", lambda stores: stores.connections.delete_many(["c1"])),
}


async def test_the_units_of_a_write_are_reckoned_as_they_are_charged(local_url: str) -> None:
    """In the table and in each index, for items of any size."""
    charged: list[float] = []

    def record(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded) and event.operation in WRITES:
            charged.append(sum(capacity.units for capacity in event.capacity))

    async with open_stores(
        endpoint_url=local_url, prefix=unique_prefix(), observe=record, batch_writes=False
    ) as stores:
        await stores.create_tables()
        reckoned: dict[str, float] = {}
        measured: dict[str, float] = {}
        for name, (table, key, call) in STEPS.items():
            before = await stores.engine.get(table, key)
            charged.clear()
            await call(stores)
            measured[name] = sum(charged)
            reckoned[name] = write_units(table, before, await stores.engine.get(table, key))
    assert reckoned == measured
    assert measured["a small request"] == 2
    assert measured["one that runs later"] == 3
    assert measured["one of a connection"] == 3
