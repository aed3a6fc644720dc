"""The capacity of a batch. DynamoDB Local reports none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from streamer_store import open_stores
from streamer_store.conditions import OneOf
from streamer_store.dynamo.calls import CallEnded, Capacity, TryFailed
from streamer_store.engine import Update
from streamer_store.schema import REQUESTS
from unit.store.dynamo.recorder import Recorder

pytestmark = pytest.mark.anyio
CONSUMED = {
    "TableName": "streamer_requests",
    "CapacityUnits": 7.0,
    "Table": {"CapacityUnits": 2.0},
    "GlobalSecondaryIndexes": {"StatusIndex": {"CapacityUnits": 4.0}},
}


@pytest.fixture
def answering(recorder: Recorder) -> Iterator[Recorder]:
    responses = [{"TableName": "streamer_requests"}] * 2
    body = {"Responses": responses, "ConsumedCapacity": [CONSUMED]}
    recorder.body = json.dumps(body).encode()
    yield recorder
    recorder.body = b"{}"


async def test_statements_that_failed_are_counted_on_the_table(answering: Recorder) -> None:
    """AWS charges them in the total of the table, and in none of its parts."""
    events: list[CallEnded | TryFailed] = []
    writes = [
        Update(
            table=REQUESTS,
            key=key,
            sets={"Version": {"S": "v1"}},
            conditions=(OneOf("Version", ({"S": "v0"},)),),
            returning=False,
        )
        for key in ("r1", "r2")
    ]
    async with open_stores(endpoint_url=answering.url, observe=events.append) as stores:
        await asyncio.gather(*map(stores.engine.update, writes))
    (ended,) = [event for event in events if isinstance(event, CallEnded)]
    assert ended.operation == "BatchExecuteStatement"
    assert ended.capacity == (
        Capacity("streamer_requests", "", 2.0),
        Capacity("streamer_requests", "StatusIndex", 4.0),
        Capacity("streamer_requests", "", 1.0),
    )
