"""The shipped policy of producers against the calls that producers and routers make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from integration.policy_fault import WRITES, PolicyFault
from integration.proxy import Proxy
from policy import PRODUCER_POLICY
from streamer_store import (
    AsyncRequest,
    Connection,
    Enqueued,
    EventType,
    RequestStatus,
    Stores,
    Subscription,
    open_stores,
)
from support import connection

pytestmark = [pytest.mark.anyio, pytest.mark.local]
Watched = tuple[Stores, PolicyFault]


@pytest.fixture
async def producer(
    real: tuple[Stores, dict[str, str]], proxy: Proxy
) -> AsyncIterator[tuple[Stores, PolicyFault]]:
    """Give stores whose calls the policy allows or denies. Answers to writes get lost."""
    prefix = real[1]["STREAMER_TABLE_PREFIX"]
    fault = PolicyFault(prefix, PRODUCER_POLICY, twice=WRITES)
    proxy.fault = fault
    async with open_stores(endpoint_url=proxy.url, prefix=prefix) as stores:
        yield stores, fault


def requests(*ids: str, connection_id: str | None = None) -> list[AsyncRequest]:
    return [AsyncRequest(action="a", request_id=each, connection_id=connection_id) for each in ids]


def open_connection(connection_id: str) -> Connection:
    return connection(connection_id, connected_at=datetime.now(UTC))


async def test_producers_need_exactly_the_allowed_calls(producer: Watched) -> None:
    """They enqueue and read requests, and write connections and subscriptions."""
    stores, fault = producer
    # A router: $connect, ping.
    await stores.connections.save(open_connection("c1"))
    await stores.connections.save_many([open_connection("c2"), open_connection("c3")])
    await stores.connections.update_last_ping("c1")
    assert isinstance(await stores.connections.get("c1"), Connection)

    # A producer.
    (one,) = requests("r1", connection_id="c1")
    await stores.requests.enqueue(one)
    await stores.requests.enqueue_many(requests("r2", "r3", "r4", connection_id="c1"))
    await stores.requests.enqueue_all(requests("r5", "r7", connection_id="c3"))
    await stores.requests.enqueue(*requests("r8", connection_id="c2"))
    (with_subscriptions,) = requests("r6")
    await stores.requests.enqueue_with_subscriptions(
        with_subscriptions, dict.fromkeys(["c1", "c2"], EventType)
    )
    assert (await stores.requests.get("r6")).status is RequestStatus.PENDING
    assert set(await stores.requests.get_many(["r1", "r6"])) == {"r1", "r6"}

    # Subscriptions.
    await stores.subscriptions.subscribe("c3", "r1")
    await stores.subscriptions.unsubscribe("c3", "r1")
    many = [Subscription(connection_id="c3", request_id=request_id) for request_id in ("r1", "r2")]
    await stores.subscriptions.save_many(many)
    assert len(await stores.subscriptions.get_by_connection("c3")) == 2
    await stores.subscriptions.delete_many([many[0].subscription_id])

    # The next run of a unique key deletes the subscriptions of the one before.
    for number in range(2):
        keyed = AsyncRequest(action="a", unique_key="k", connection_id="c5", payload={"n": number})
        stored = await stores.requests.enqueue(keyed)
        assert stored.enqueued is Enqueued.CREATED
        await stores.subscriptions.subscribe("c4", stored.request_id, [EventType.COMPLETE])
        await stores.requests.cancel_by_connection("c5")
    assert await stores.subscriptions.get_by_connection("c4") != []

    # $disconnect.
    await stores.disconnect("c2", cancel_requests=True)
    await stores.disconnect("c1", cancel_requests=True)
    assert (await stores.requests.get("r1")).status is RequestStatus.CANCELLED
    await stores.connections.delete("c3")
    await stores.connections.delete_many(["c3", "c4"])

    assert fault.seen == fault.allowed
