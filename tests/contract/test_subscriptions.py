"""Subscriptions of connections to requests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, patch

import pytest

from streamer_store import EventType, Stores, Undecodable, ValidationError
from streamer_store.engine import Page, Put
from streamer_store.schema import SUBSCRIPTIONS
from streamer_store.times import epoch
from support import START, connection

if TYPE_CHECKING:
    from streamer_store.values import Item
    from support import ManualClock

pytestmark = pytest.mark.anyio


async def test_a_subscription_is_listed_by_connection_and_by_request(stores: Stores) -> None:
    """It has all event types unless some are given."""
    everything = await stores.subscriptions.subscribe("c1", "r1")
    some = await stores.subscriptions.subscribe("c1", "r2", [EventType.ERROR])
    await stores.subscriptions.subscribe("c2", "r1")
    assert everything.event_types == frozenset(EventType)
    assert some.event_types == {EventType.ERROR}
    by_connection = await stores.subscriptions.get_by_connection("c1")
    assert sorted(by_connection, key=lambda subscription: subscription.request_id) == [
        everything,
        some,
    ]
    by_request = await stores.subscriptions.get_by_request("r1")
    assert sorted(subscription.connection_id for subscription in by_request) == ["c1", "c2"]
    assert await stores.subscriptions.get_by_request("nobody") == []


@pytest.mark.parametrize("one", [EventType.COMPLETE, "complete"])
async def test_one_event_type_is_not_a_list(stores: Stores, one: Any) -> None:
    """Text is a list of characters, of which none is an event type."""
    with pytest.raises(ValidationError, match=r"must be a list, such as \['complete'\]"):
        await stores.subscriptions.subscribe("c1", "r1", one)


async def test_subscribing_again_replaces_the_events(stores: Stores, clock: ManualClock) -> None:
    """There is one subscription, with its first CreatedAt and a new TTL."""
    await stores.subscriptions.subscribe("c1", "r1", [EventType.PROGRESS])
    clock.advance(60)
    await stores.subscriptions.subscribe("c1", "r1", [EventType.COMPLETE, EventType.ERROR])
    (left,) = await stores.subscriptions.get_by_request("r1")
    assert left.event_types == {EventType.COMPLETE, EventType.ERROR}
    assert left.created_at == START
    assert left.ttl == epoch(clock.now(), timedelta(hours=24))


async def test_unsubscribing_again_succeeds(stores: Stores) -> None:
    """The subscription is deleted, the others are kept."""
    await stores.subscriptions.subscribe("c1", "r1")
    await stores.subscriptions.subscribe("c1", "r2")
    await stores.subscriptions.unsubscribe("c1", "r1")
    await stores.subscriptions.unsubscribe("c1", "r1")
    (left,) = await stores.subscriptions.get_by_connection("c1")
    assert left.request_id == "r2"


async def test_all_subscriptions_of_a_connection_are_deleted(stores: Stores) -> None:
    """Sixty are deleted at once. Those of another connection are kept."""
    for number in range(60):
        await stores.subscriptions.subscribe("c1", f"r{number}")
    await stores.subscriptions.subscribe("c2", "r1")
    assert await stores.subscriptions.delete_by_connection("c1") == 60
    assert await stores.subscriptions.get_by_connection("c1") == []
    assert len(await stores.subscriptions.get_by_connection("c2")) == 1
    assert await stores.subscriptions.delete_by_connection("c1") == 0


async def test_an_empty_table_is_recognized(stores: Stores) -> None:
    """A subscription counts at once, and until it is deleted. Other tables do not count."""
    await stores.connections.save(connection("c1", connected_at=START))
    assert not await stores.subscriptions.any_exist()
    for number in range(3):
        await stores.subscriptions.subscribe(f"c{number}", "r1")
        assert await stores.subscriptions.any_exist()
    for number in range(3):
        assert await stores.subscriptions.any_exist()
        await stores.subscriptions.unsubscribe(f"c{number}", "r1")
    assert not await stores.subscriptions.any_exist()


async def test_a_table_that_was_not_read_to_its_end_is_not_empty(stores: Stores) -> None:
    """DynamoDB may answer a Scan with no items and a key to continue from."""
    scan = AsyncMock(return_value=Page((), {"SubscriptionID": {"S": "c1#r1"}}))
    with patch.object(stores.engine, "scan", scan):
        assert await stores.subscriptions.any_exist()
    scan.assert_awaited_once()


async def test_wrong_subscriptions_are_refused(stores: Stores) -> None:
    """The error names the field: an empty id, `#` in the connection id, no or unknown events."""
    with pytest.raises(ValidationError, match="connection_id"):
        await stores.subscriptions.subscribe("", "r1")
    with pytest.raises(ValidationError, match="connection_id"):
        await stores.subscriptions.subscribe("a#b", "r1")
    with pytest.raises(ValidationError, match="request_id"):
        await stores.subscriptions.unsubscribe("c1", "")
    with pytest.raises(ValidationError, match="event_types"):
        await stores.subscriptions.subscribe("c1", "r1", [])
    with pytest.raises(ValidationError, match="event_types"):
        await stores.subscriptions.subscribe("c1", "r1", ["all"])  # type: ignore[list-item]
    with pytest.raises(ValidationError, match="event_types"):
        await stores.subscriptions.subscribe("c1", "r1", 5)  # type: ignore[arg-type]


async def test_lists_report_undecodable_subscriptions(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """An undecodable subscription is reported and left out. The others are listed."""
    await stores.subscriptions.subscribe("c1", "r1")
    broken: Item = {
        "SubscriptionID": {"S": "c1#r2"},
        "ConnectionID": {"S": "c1"},
        "RequestID": {"S": "r2"},
        "EventTypes": {"S": "progress"},
    }
    await stores.engine.put(Put(table=SUBSCRIPTIONS, item=broken))
    (left,) = await stores.subscriptions.get_by_connection("c1")
    assert left.request_id == "r1"
    assert [error.key for error in undecodable] == ["c1#r2"]


@pytest.mark.parametrize(
    ("stored", "known"),
    [
        (["progress", "removed"], {EventType.PROGRESS}),
        (["PROGRESS", "complete", "error"], {EventType.COMPLETE, EventType.ERROR}),
        (["removed", ""], set()),
    ],
)
async def test_an_unknown_event_type_is_ignored(
    stores: Stores, undecodable: list[Undecodable], stored: list[str], known: set[EventType]
) -> None:
    """The known types are kept. Without any, the subscription has no event types."""
    item: Item = {
        "SubscriptionID": {"S": "c1#r1"},
        "ConnectionID": {"S": "c1"},
        "RequestID": {"S": "r1"},
        "EventTypes": {"L": [{"S": event_type} for event_type in stored]},
    }
    await stores.engine.put(Put(table=SUBSCRIPTIONS, item=item))
    (subscription,) = await stores.subscriptions.get_by_request("r1")
    assert subscription.event_types == known
    assert subscription.unknown_event_types == set(stored) - known
    assert await stores.subscriptions.get_by_connection("c1") == [subscription]
    assert undecodable == []
