"""Connections that are closed, missing or new, and posts that raise unknown errors."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from streamer_store import AccessDenied, EventType, NotFound, StoreUnavailable
from streamer_store.engine import Put
from streamer_store.schema import SUBSCRIPTIONS
from streamer_store.values import Item
from streamer_worker.events import ConnectionGone, ConnectionSuspended, StepFailed
from streamer_worker.push.errors import Gone, PushFailed
from unit.worker.harness import World, virtual_time
from unit.worker.push.notifier_bench import opened

pytestmark = [pytest.mark.anyio, virtual_time]


async def test_a_closed_connection_gets_no_more_progress(world: World) -> None:
    """While the recipients are cached, it is posted to once and deleted once."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1", "c2")
        bench.gateway.always["c1"] = Gone("closed")
        for number in range(30):
            bench.progress(str(number))
            await anyio.sleep(0.1)
        await bench.settle()
    assert [connection_id for _, connection_id in bench.gateway.tried].count("c1") == 1
    assert len(world.recorder.of(ConnectionGone)) == 1
    assert len(bench.gateway.received["c2"]) > 20


async def test_deleting_closed_connections_delays_no_posts(world: World) -> None:
    """A deletion does not use the concurrency of posts, however long it takes."""
    async with opened(world, max_concurrent_posts=2) as bench:
        await bench.connect("gone1", "gone2", "gone3", "c1")
        await bench.subscribe("gone1", "gone2", "gone3")
        bench.gateway.always = {f"gone{number}": Gone("closed") for number in (1, 2, 3)}
        fault = world.engine.hold("delete", times=10**6)
        bench.complete()
        await fault.wait_reached()
        await anyio.sleep(1)
        began = anyio.current_time()
        bench.complete(request_id="r2", own="c1")
        with anyio.fail_after(30):
            while not bench.gateway.received:  # noqa: ASYNC110  virtual time
                await anyio.sleep(0.01)
        assert anyio.current_time() - began < 0.1
        fault.let_go()
        await anyio.sleep(1)
    with pytest.raises(NotFound):
        await world.stores.connections.get("gone3")


async def test_a_final_message_survives_an_unknown_error(world: World) -> None:
    """Each unknown error is emitted, and the message is tried again."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [KeyError("Error"), AttributeError("no body")]
        bench.complete(own="c1")
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    assert [type(event.error) for event in world.recorder.of(StepFailed)] == [
        KeyError,
        AttributeError,
    ]
    assert bench.outcomes() == {("complete", "failed"): 2, ("complete", "sent"): 1}


async def test_a_failed_deletion_of_a_closed_connection_is_emitted(world: World) -> None:
    """The next message to the connection tries again."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = Gone("closed")
        world.engine.fail("delete", AccessDenied("not authorized"))
        bench.complete(own="c1")
        await bench.settle()
        (failed,) = world.recorder.of(StepFailed)
        assert (failed.loop, type(failed.error)) == ("push", AccessDenied)
        assert world.recorder.of(ConnectionGone) == []
        bench.complete(request_id="r2", own="c1")
        await bench.settle()
    (gone,) = world.recorder.of(ConnectionGone)
    assert gone.connection_id == "c1"
    with pytest.raises(NotFound):
        await world.stores.connections.get("c1")


async def test_a_connection_is_new_for_ten_seconds(world: World) -> None:
    """Until then API Gateway may not know it yet, and the message is tried again."""
    async with opened(world) as bench:
        await bench.connect("c1", age=timedelta(seconds=9))
        bench.gateway.answers["c1"] = [Gone("not known yet")]
        bench.complete(own="c1")
        await anyio.sleep(5)
    assert bench.gateway.types("c1") == ["complete"]
    assert world.recorder.of(ConnectionGone) == []


async def test_an_orphaned_subscription_of_unknown_age_is_deleted(world: World) -> None:
    """Without CreatedAt, as another producer may write it, it counts as old."""
    item: Item = {
        "SubscriptionID": {"S": "nobody#r1"},
        "ConnectionID": {"S": "nobody"},
        "RequestID": {"S": "r1"},
        "EventTypes": {"SS": ["complete"]},
    }
    await world.engine.inner.put(Put(table=SUBSCRIPTIONS, item=item))
    async with opened(world) as bench:
        bench.complete()
        await bench.settle()
        await anyio.sleep(1)
    assert await world.stores.subscriptions.get_by_request("r1") == []


async def test_an_unwanted_message_does_not_check_the_connection(world: World) -> None:
    """A subscription without the message's type costs no read."""
    async with opened(world) as bench:
        await bench.subscribe("nobody", types=[EventType.PROGRESS])
        await anyio.sleep(11)
        world.engine.calls.clear()
        bench.complete()
        await bench.settle()
        await anyio.sleep(1)
    assert "get" not in world.engine.calls
    assert len(await world.stores.subscriptions.get_by_request("r1")) == 1


@pytest.mark.parametrize(("failures", "outcome"), [(4, "sent"), (5, "unresolved")])
async def test_recipients_of_a_final_message_are_read_five_times(
    failures: int, outcome: str, world: World
) -> None:
    """After five errors the message is given up."""
    async with opened(world) as bench:
        await bench.connect("c1")
        await bench.subscribe("other", request_id="another")
        world.engine.fail("query", StoreUnavailable("away"), times=failures)
        bench.complete(own="c1")
        await bench.settle()
    assert bench.outcomes() == {("complete", outcome): 1}


async def test_the_failures_of_a_closed_connection_are_forgotten(world: World) -> None:
    """They no longer count if its deletion failed and it gets another message."""
    async with opened(world) as bench:
        await bench.connect("c1")
        world.engine.fail("delete", AccessDenied("not authorized"))
        failure = PushFailed("500")
        bench.gateway.answers["c1"] = [failure, failure, Gone("closed"), failure]
        for request_id in ("r1", "r2"):
            bench.complete(request_id=request_id, own="c1")
            await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    assert world.recorder.of(ConnectionSuspended) == []


async def test_at_most_twenty_recipients_are_read_at_once(world: World) -> None:
    """Many requests that end together do not send all their reads at once."""
    async with opened(world) as bench:
        await bench.subscribe("other", request_id="another")
        fault = world.engine.hold("query", times=10**6)
        for number in range(30):
            bench.complete(request_id=f"r{number}")
        await anyio.wait_all_tasks_blocked()
        assert world.engine.calls.count("query") == 20
        fault.let_go()
        await bench.settle()
    assert world.engine.calls.count("query") == 30
