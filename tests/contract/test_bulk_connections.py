"""Connections and subscriptions that are saved and deleted in bulk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contract.bulk_steps import errors_of
from streamer_store import (
    BulkResult,
    EventType,
    Stores,
    Subscription,
)
from support import START, connection

pytestmark = pytest.mark.anyio


CONNECTIONS = [connection(f"c{number}", connected_at=START) for number in range(60)]


async def test_connections_are_saved_and_deleted_in_bulk(stores: Stores) -> None:
    """Later records replace earlier ones, and a bad one is refused alone."""
    renamed = replace(CONNECTIONS[0], user_id="another")
    large = replace(CONNECTIONS[0], connection_id="large", metadata={"text": "x" * 500_000})
    results: list[BulkResult[Any]] = []
    await stores.connections.save_many([*CONNECTIONS, large, renamed], on_result=results.append)
    assert {key for key, error in errors_of(results).items() if error} == {"large"}
    stored = await stores.connections.get_many(each.connection_id for each in CONNECTIONS)
    assert len(stored) == 60
    assert stored["c0"].user_id == "another"
    assert stored["c1"] == await stores.connections.save(CONNECTIONS[1])
    ids = [each.connection_id for each in CONNECTIONS[1:]]
    assert (await stores.connections.delete_many(ids)).done == 59
    assert list(await stores.connections.get_many(["c0", *ids])) == ["c0"]


async def test_subscriptions_are_saved_and_deleted_in_bulk(stores: Stores) -> None:
    """They are as `subscribe` stores them."""
    wanted = [
        Subscription(
            connection_id="c1", request_id=f"r{n}", event_types=frozenset({EventType.ERROR})
        )
        for n in range(30)
    ]
    stored = (await stores.subscriptions.save_many(wanted)).records
    assert stored[0] == await stores.subscriptions.subscribe("c1", "r0", [EventType.ERROR])
    assert len(await stores.subscriptions.get_by_connection("c1")) == 30
    await stores.subscriptions.delete_many(each.subscription_id for each in wanted[1:])
    assert await stores.subscriptions.get_by_connection("c1") == stored[:1]
