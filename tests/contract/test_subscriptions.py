"""Who wants to hear of which request."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from streamer_store import EventType, Stores, Undecodable, ValidationError
from streamer_store.engine import Put
from streamer_store.schema import SUBSCRIPTIONS
from streamer_store.times import epoch
from support import START

if TYPE_CHECKING:
    from streamer_store.values import Item
    from support import ManualClock

pytestmark = pytest.mark.anyio


async def test_a_subscription_is_listed_both_ways(stores: Stores) -> None:
    """By its connection and by its request, with all events unless some are named."""
    made = await stores.subscriptions.subscribe("c1", "r1")
    some = await stores.subscriptions.subscribe("c1", "r2", [EventType.ERROR])
    await stores.subscriptions.subscribe("c2", "r1")
    assert made.event_types == frozenset(EventType)
    assert some.event_types == {EventType.ERROR}
    by_connection = await stores.subscriptions.get_by_connection("c1")
    assert sorted(by_connection, key=lambda each: each.request_id) == [made, some]
    by_request = await stores.subscriptions.get_by_request("r1")
    assert sorted(each.connection_id for each in by_request) == ["c1", "c2"]
    assert await stores.subscriptions.get_by_request("nobody") == []


async def test_subscribing_again_replaces_the_events(stores: Stores, clock: ManualClock) -> None:
    """One subscription is left, as old as the first, its TTL renewed."""
    await stores.subscriptions.subscribe("c1", "r1", [EventType.PROGRESS])
    clock.advance(60)
    await stores.subscriptions.subscribe("c1", "r1", [EventType.COMPLETE, EventType.ERROR])
    (left,) = await stores.subscriptions.get_by_request("r1")
    assert left.event_types == {EventType.COMPLETE, EventType.ERROR}
    assert left.created_at == START
    assert left.ttl == epoch(clock.now(), timedelta(hours=24))


async def test_unsubscribing_is_well_with_what_is_gone(stores: Stores) -> None:
    """That subscription goes, the others stay."""
    await stores.subscriptions.subscribe("c1", "r1")
    await stores.subscriptions.subscribe("c1", "r2")
    await stores.subscriptions.unsubscribe("c1", "r1")
    await stores.subscriptions.unsubscribe("c1", "r1")
    (left,) = await stores.subscriptions.get_by_connection("c1")
    assert left.request_id == "r2"


async def test_all_of_a_connection_go_in_batches(stores: Stores) -> None:
    """Sixty at once; another connection keeps its own."""
    for number in range(60):
        await stores.subscriptions.subscribe("c1", f"r{number}")
    await stores.subscriptions.subscribe("c2", "r1")
    assert await stores.subscriptions.delete_by_connection("c1") == 60
    assert await stores.subscriptions.get_by_connection("c1") == []
    assert len(await stores.subscriptions.get_by_connection("c2")) == 1
    assert await stores.subscriptions.delete_by_connection("c1") == 0


async def test_wrong_subscriptions_are_refused(stores: Stores) -> None:
    """The field is named: empty ids, '#' in a connection's, no events, unknown events."""
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


async def test_lists_tell_of_what_does_not_read(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """A broken subscription is reported; the others still come."""
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
    assert [each.key for each in undecodable] == ["c1#r2"]


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
    """Those that are known count; where none is, the subscription is one to nothing."""
    item: Item = {
        "SubscriptionID": {"S": "c1#r1"},
        "ConnectionID": {"S": "c1"},
        "RequestID": {"S": "r1"},
        "EventTypes": {"L": [{"S": each} for each in stored]},
    }
    await stores.engine.put(Put(table=SUBSCRIPTIONS, item=item))
    (found,) = await stores.subscriptions.get_by_request("r1")
    assert found.event_types == known
    assert found.unknown_event_types == set(stored) - known
    assert await stores.subscriptions.get_by_connection("c1") == [found]
    assert undecodable == []
