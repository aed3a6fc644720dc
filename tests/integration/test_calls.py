"""The costs of calls to the table, as the observer of the client receives them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from integration.proxy import Proxy, answering, resetting
from streamer_store import (
    AsyncRequest,
    CallEnded,
    RequestNotPending,
    RequestStatus,
    Stores,
    StoreUnavailable,
    TryFailed,
    open_stores,
)
from support import connection, unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]
NOW = datetime.now(UTC)
ObservedEvents = list[CallEnded | TryFailed]


@asynccontextmanager
async def opened(
    proxy: Proxy, *, attempts: int = 1
) -> AsyncIterator[tuple[Stores, ObservedEvents]]:
    events: ObservedEvents = []
    proxy.fault = lambda _request, forward: forward()
    async with open_stores(
        endpoint_url=proxy.url, prefix=unique_prefix(), attempts=attempts, observe=events.append
    ) as stores:
        await stores.create_tables()
        events.clear()
        yield stores, events


def units(events: ObservedEvents, operation: str) -> dict[str, float]:
    """Return the units that calls of the operation have consumed, by index. The table is ''."""
    consumed: dict[str, float] = {}
    for event in events:
        if isinstance(event, CallEnded) and event.operation == operation:
            for part in event.capacity:
                consumed[part.index] = consumed.get(part.index, 0) + part.units
    return consumed


async def test_units_are_counted_by_table_and_index(proxy: Proxy) -> None:
    """A put of a small request is one unit for the table, and one for each index that it enters."""
    async with opened(proxy) as (stores, events):
        await stores.requests.enqueue(AsyncRequest(action="echo", connection_id="c"))
        assert units(events, "PutItem") == {"": 1, "ConnectionIndex": 1, "StatusIndex": 1}
        await stores.requests.depth(RequestStatus.PENDING, limit=10)
        assert units(events, "Query") == {"StatusIndex": 0.5}
        await stores.connections.save(connection("c", connected_at=NOW))
        await stores.connections.get_many(["c"])
        assert units(events, "BatchGetItem") == {"": 1}
        seconds = [event.seconds for event in events if isinstance(event, CallEnded)]
        assert all(0 < duration < 10 for duration in seconds)


async def test_a_failed_condition_is_not_a_failed_call(proxy: Proxy) -> None:
    """Its duration is reported, and no failure."""
    async with opened(proxy) as (stores, events):
        await stores.requests.enqueue(AsyncRequest(action="echo"))
        page = await stores.requests.entries(RequestStatus.PENDING, limit=1)
        await stores.requests.claim(page.candidates[0])
        events.clear()
        with pytest.raises(RequestNotPending):
            await stores.requests.claim(page.candidates[0])
        assert [(type(event), event.operation) for event in events] == [(CallEnded, "UpdateItem")]


@pytest.mark.parametrize(
    ("status", "code", "throttled"),
    [
        (400, "ProvisionedThroughputExceededException", True),
        (400, "ThrottlingException", True),
        (500, "InternalServerError", False),
    ],
)
async def test_every_failed_try_is_reported(
    proxy: Proxy, status: int, code: str, *, throttled: bool
) -> None:
    """Three tries of one call are three failures. The call ends once."""
    async with opened(proxy, attempts=3) as (stores, events):
        proxy.fault = answering(status, code)
        with pytest.raises(StoreUnavailable):
            await stores.connections.get_many(["c"])
        failed = TryFailed(operation="BatchGetItem", code=code, throttled=throttled)
        assert events[:3] == [failed] * 3
        assert [type(event) for event in events[3:]] == [CallEnded]


async def test_a_network_failure_is_reported_by_its_exception(proxy: Proxy) -> None:
    """The call ends without an answer, and is reported."""
    async with opened(proxy, attempts=2) as (stores, events):
        proxy.fault = resetting
        with pytest.raises(StoreUnavailable):
            await stores.connections.get_many(["c"])
        failures = [event for event in events if isinstance(event, TryFailed)]
        assert len(failures) == 2
        assert {event.operation for event in failures} == {"BatchGetItem"}
        assert all(event.code.isidentifier() for event in failures)
        assert isinstance(events[-1], CallEnded)
