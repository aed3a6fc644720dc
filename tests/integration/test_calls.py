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
    Connection,
    RequestNotPending,
    RequestStatus,
    Stores,
    StoreUnavailable,
    TryFailed,
    open_stores,
)
from support import unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]
NOW = datetime.now(UTC)
Told = list[CallEnded | TryFailed]


@asynccontextmanager
async def opened(proxy: Proxy, *, attempts: int = 1) -> AsyncIterator[tuple[Stores, Told]]:
    told: Told = []
    proxy.fault = lambda _request, forward: forward()
    async with open_stores(
        endpoint_url=proxy.url, prefix=unique_prefix(), attempts=attempts, observe=told.append
    ) as stores:
        await stores.create_tables()
        told.clear()
        yield stores, told


def units(told: Told, operation: str) -> dict[str, float]:
    """Return the units that calls of the operation have consumed, by index. The table is ''."""
    found: dict[str, float] = {}
    for each in told:
        if isinstance(each, CallEnded) and each.operation == operation:
            for part in each.capacity:
                found[part.index] = found.get(part.index, 0) + part.units
    return found


async def test_units_are_counted_by_table_and_index(proxy: Proxy) -> None:
    """A put of a small request is one unit for the table, and one for each index that it enters."""
    async with opened(proxy) as (stores, told):
        await stores.requests.enqueue(AsyncRequest(action="echo", connection_id="c"))
        assert units(told, "PutItem") == {"": 1, "ConnectionIndex": 1, "StatusIndex": 1}
        await stores.requests.depth(RequestStatus.PENDING, limit=10)
        assert units(told, "Query") == {"StatusIndex": 0.5}
        await stores.connections.save(
            Connection(
                connection_id="c", endpoint="wss://x", connected_at=NOW, user_id="u", tenant_id="t"
            )
        )
        await stores.connections.get_many(["c"])
        assert units(told, "BatchGetItem") == {"": 1}
        seconds = [each.seconds for each in told if isinstance(each, CallEnded)]
        assert all(0 < each < 10 for each in seconds)


async def test_a_failed_condition_is_not_a_failed_call(proxy: Proxy) -> None:
    """Its duration is reported, and no failure."""
    async with opened(proxy) as (stores, told):
        await stores.requests.enqueue(AsyncRequest(action="echo"))
        page = await stores.requests.entries(RequestStatus.PENDING, limit=1)
        await stores.requests.claim(page.candidates[0])
        told.clear()
        with pytest.raises(RequestNotPending):
            await stores.requests.claim(page.candidates[0])
        assert [(type(each), each.operation) for each in told] == [(CallEnded, "UpdateItem")]


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
    async with opened(proxy, attempts=3) as (stores, told):
        proxy.fault = answering(status, code)
        with pytest.raises(StoreUnavailable):
            await stores.connections.get_many(["c"])
        failed = TryFailed(operation="BatchGetItem", code=code, throttled=throttled)
        assert told[:3] == [failed] * 3
        assert [type(each) for each in told[3:]] == [CallEnded]


async def test_a_network_failure_is_reported_by_its_exception(proxy: Proxy) -> None:
    """The call ends without an answer, and is reported."""
    async with opened(proxy, attempts=2) as (stores, told):
        proxy.fault = resetting
        with pytest.raises(StoreUnavailable):
            await stores.connections.get_many(["c"])
        failures = [each for each in told if isinstance(each, TryFailed)]
        assert len(failures) == 2
        assert {each.operation for each in failures} == {"BatchGetItem"}
        assert all(each.code.isidentifier() for each in failures)
        assert isinstance(told[-1], CallEnded)
