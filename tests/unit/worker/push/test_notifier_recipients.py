"""To whom messages are delivered: subscribers, allowed endpoints, and no closed connections."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import AccessDenied, EventType, NotFound, StoreUnavailable
from streamer_store.engine import Put
from streamer_store.schema import CONNECTIONS, SUBSCRIPTIONS
from streamer_worker.events import ConnectionGone, EndpointRefused, StepFailed
from streamer_worker.push.errors import Gone
from unit.worker.harness import World, virtual_time
from unit.worker.push.notifier_bench import ENDPOINT, opened

pytestmark = [pytest.mark.anyio, virtual_time]


async def test_messages_reach_their_recipients(world: World) -> None:
    """The own connection gets all messages, a subscriber those it subscribed to, others none."""
    async with opened(world) as bench:
        await bench.connect("own", "all", "ends", "other")
        await bench.subscribe("all")
        await bench.subscribe("ends", types=[EventType.COMPLETE, EventType.ERROR])
        await bench.subscribe("other", request_id="r2")
        bench.progress("one", own="own")
        await bench.settle()
        bench.complete(own="own")
        await bench.settle()
        bench.error(own="own")
        await bench.settle()
    assert bench.gateway.types("own") == ["progress", "complete", "error"]
    assert bench.gateway.types("all") == ["progress", "complete", "error"]
    assert bench.gateway.types("ends") == ["complete", "error"]
    assert bench.gateway.types("other") == []
    assert bench.gateway.urls == {"https://abc.execute-api.us-east-1.amazonaws.com/test"}


async def test_connections_of_a_go_producer_get_messages(world: World) -> None:
    """Their ConnectedAt may be the zero time of Go. Event types that this release does not know
    are ignored: a subscription to unknown types alone gets no messages.
    """
    own = {
        "ConnectionID": {"S": "own"},
        "UserID": {"S": "u"},
        "TenantID": {"S": "t"},
        "Endpoint": {"S": ENDPOINT},
        "ConnectedAt": {"S": "0001-01-01T00:00:00Z"},
    }
    engine = world.stores.engine
    async with opened(world) as bench:
        for connection_id, types in {"own": ["complete", "log"], "silent": ["log"]}.items():
            item = own | {"ConnectionID": {"S": connection_id}}
            await engine.put(Put(table=CONNECTIONS, item=item))
            subscription: dict[str, Any] = {
                "SubscriptionID": {"S": f"{connection_id}#r1"},
                "ConnectionID": {"S": connection_id},
                "RequestID": {"S": "r1"},
                "EventTypes": {"SS": types},
            }
            await engine.put(Put(table=SUBSCRIPTIONS, item=subscription))
        bench.progress("one", own="own")
        await bench.settle()
        bench.complete(own="own")
        await bench.settle()
        # The connection is not new, so a 410 deletes it.
        bench.gateway.always["own"] = Gone("the connection is closed")
        bench.complete(own="own")
        await bench.settle()
    assert bench.gateway.types("own") == ["complete"]
    assert bench.gateway.types("silent") == []
    assert await engine.get(CONNECTIONS, "own") is None


async def test_the_own_connection_may_subscribe_to_less(world: World) -> None:
    """Its subscription selects its messages, and it gets each message once."""
    async with opened(world) as bench:
        await bench.connect("own")
        await bench.subscribe("own", types=[EventType.COMPLETE])
        bench.progress("one", own="own")
        await bench.settle()
        bench.complete(own="own")
        await bench.settle()
    assert bench.gateway.types("own") == ["complete"]


async def test_a_message_without_recipients_is_not_posted(world: World) -> None:
    """Nothing is posted or emitted."""
    async with opened(world) as bench:
        bench.progress("one", own="gone long ago")
        bench.complete()
        await bench.settle()
    assert bench.gateway.tried == []
    assert bench.outcomes() == {}


async def test_a_closed_connection_is_deleted(world: World) -> None:
    """Its subscriptions and its waiting messages are removed, too."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1", "c2")
        await bench.subscribe("c1", request_id="r2")
        bench.gateway.always["c1"] = Gone("closed")
        bench.complete()
        await bench.settle()
        with pytest.raises(NotFound):
            await world.stores.connections.get("c1")
        assert await world.stores.subscriptions.get_by_connection("c1") == []
        await world.stores.connections.get("c2")
    (gone,) = world.recorder.of(ConnectionGone)
    assert (gone.connection_id, gone.subscriptions) == ("c1", 2)
    assert bench.outcomes() == {("complete", "gone"): 1, ("complete", "sent"): 1}


async def test_a_new_connection_is_not_deleted(world: World) -> None:
    """API Gateway answers 410 until $connect has returned, so the message is tried again.

    Proves PUSH-2.
    """
    async with opened(world) as bench:
        await bench.connect("c1", age=timedelta(seconds=1))
        bench.gateway.answers["c1"] = [Gone("closed"), Gone("closed")]
        bench.complete(own="c1")
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    await world.stores.connections.get("c1")


async def test_orphaned_subscriptions_are_deleted(world: World) -> None:
    """A new subscription is kept, because the row of its connection may still be written.

    Proves PUSH-2.
    """
    async with opened(world) as bench:
        await bench.subscribe("nobody")
        await anyio.sleep(11)
        await bench.subscribe("soon")
        bench.complete()
        await bench.settle()
        await anyio.sleep(1)
        left = await world.stores.subscriptions.get_by_request("r1")
    assert [subscription.connection_id for subscription in left] == ["soon"]


async def test_a_failed_check_of_an_orphan_is_emitted(world: World) -> None:
    """With a policy that lacks GetItem, orphans would otherwise remain unnoticed."""
    async with opened(world) as bench:
        await bench.subscribe("nobody")
        await anyio.sleep(11)
        world.engine.fail("get", AccessDenied("not authorized"), times=1)
        bench.complete()
        await bench.settle()
        await anyio.sleep(1)
    (failed,) = world.recorder.of(StepFailed)
    assert (failed.loop, type(failed.error)) == ("push", AccessDenied)


@pytest.mark.parametrize("endpoint", ["ws://evil.example/x", "https://evil.example", "?"])
async def test_endpoints_that_are_not_allowed_are_never_called(world: World, endpoint: str) -> None:
    """EndpointRefused is emitted, and the connection is kept."""
    async with opened(world) as bench:
        await bench.connect("c1", endpoint=endpoint)
        bench.complete(own="c1")
        await bench.settle()
    assert bench.gateway.tried == []
    assert len(world.recorder.of(EndpointRefused)) == 1
    assert bench.outcomes() == {("complete", "refused"): 1}
    await world.stores.connections.get("c1")


async def test_recipients_of_a_final_message_are_read_again_after_an_error(world: World) -> None:
    """Recipients of progress are read once."""
    async with opened(world) as bench:
        await bench.connect("c1")
        await bench.subscribe("other", request_id="another")
        world.engine.fail("query", StoreUnavailable("away"), times=3)
        bench.progress("lost", own="c1")
        await bench.settle()
        bench.complete(own="c1")
        await bench.settle()
        world.engine.fail("query", StoreUnavailable("away"), times=99)
        bench.complete(request_id="r2", own="c1")
        await bench.settle()
    assert bench.gateway.types("c1") == ["complete"]
    assert bench.outcomes() == {
        ("progress", "unresolved"): 1,
        ("complete", "sent"): 1,
        ("complete", "unresolved"): 1,
    }


async def test_recipients_of_progress_are_cached(world: World) -> None:
    """50 reports in five seconds cause one or two queries."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("other", request_id="another")
        world.engine.calls.clear()
        for number in range(50):
            bench.progress(str(number), own="c1")
            await anyio.sleep(0.1)
        assert world.engine.calls.count("query") <= 2
        await bench.subscribe("c2")
        await anyio.sleep(6)
        bench.progress("late", own="c1")
        await bench.settle()
    assert bench.gateway.messages("c2") == ["late"]
