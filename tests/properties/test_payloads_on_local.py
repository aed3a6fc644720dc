"""DynamoDB Local accepts encoded values, counts the same size, and returns them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.test_item_size import held_to_the_byte
from properties.strategies import canonical, payloads, values
from streamer_store import AsyncRequest
from streamer_store.engine import Engine
from streamer_store.stores import stores_over
from streamer_store.values import encode
from support import ManualClock

pytestmark = pytest.mark.local


@given(batch=st.lists(payloads, min_size=1, max_size=30))
@settings(max_examples=40)
def test_payloads_are_read_back(
    portal: BlockingPortal, local_engine: Engine, batch: list[dict[str, Any]]
) -> None:
    """A batch of any payloads is stored, and read back equal and in order."""
    # SystemRandom: examples share the tables, so ids must not repeat.
    stores = stores_over(local_engine, clock=ManualClock(), rng=random.SystemRandom())

    async def round_trip() -> list[AsyncRequest]:
        stored = (
            await stores.requests.enqueue_many(
                AsyncRequest(action="echo", payload=payload) for payload in batch
            )
        ).records
        return list(
            (await stores.requests.get_many(request.request_id for request in stored)).values()
        )

    requests = portal.call(round_trip)
    payloads_read = [canonical(request.payload) for request in requests]
    assert payloads_read == [canonical(payload) for payload in batch]


@given(value=values)
@settings(max_examples=60)
def test_sizes_are_those_of_dynamodb(
    portal: BlockingPortal, local_engine: Engine, value: Any
) -> None:
    """With any value, an item of 400 KB is accepted, and one byte more is refused."""
    portal.call(held_to_the_byte, local_engine, encode(value))
