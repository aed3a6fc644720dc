"""Delivery of messages to their recipients, in virtual time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import AccessDenied, Connection, EventType, NotFound, StoreUnavailable
from streamer_store.engine import Put
from streamer_store.schema import CONNECTIONS, SUBSCRIPTIONS
from streamer_worker.events import (
    ConnectionGone,
    ConnectionSuspended,
    EndpointRefused,
    PushTried,
    StepFailed,
)
from streamer_worker.push.errors import Gone, PushFailed
from streamer_worker.push.messages import CompleteMessage, ErrorMessage, ProgressMessage
from streamer_worker.push.notifier import Notifier
from streamer_worker.settings import NotifierSettings
from unit.worker.harness import World, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]

ENDPOINT = "wss://abc.execute-api.us-east-1.amazonaws.com/test"
OLD = timedelta(hours=1)


class Gateway:
    """A Post with a script of answers for each connection."""

    def __init__(self) -> None:
        self.received: dict[str, list[dict[str, Any]]] = {}
        self.tried: list[tuple[float, str]] = []
        self.urls: set[str] = set()
        self.answers: dict[str, list[Exception | float]] = {}
        self.always: dict[str, Exception | float] = {}
        self.under_way = 0
        self.most = 0

    async def __call__(self, url: str, connection_id: str, data: bytes) -> None:
        self.urls.add(url)
        self.tried.append((anyio.current_time(), connection_id))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self._answer(connection_id)
        finally:
            self.under_way -= 1
        self.received.setdefault(connection_id, []).append(json.loads(data))

    async def _answer(self, connection_id: str) -> None:
        left = self.answers.get(connection_id)
        answer = left.pop(0) if left else self.always.get(connection_id, 0.01)
        if isinstance(answer, Exception):
            await anyio.sleep(0.01)
            raise answer
        await anyio.sleep(answer)

    def types(self, connection_id: str) -> list[str]:
        return [message["type"] for message in self.received.get(connection_id, [])]

    def messages(self, connection_id: str) -> list[str]:
        return [message["message"] for message in self.received.get(connection_id, [])]


class Bench:
    def __init__(self, world: World, gateway: Gateway, notifier: Notifier) -> None:
        self.world = world
        self.gateway = gateway
        self.notifier = notifier

    async def connect(self, *ids: str, age: timedelta = OLD, endpoint: str = ENDPOINT) -> None:
        for connection_id in ids:
            await self.world.stores.connections.save(
                Connection(
                    connection_id=connection_id,
                    user_id="u",
                    tenant_id="t",
                    endpoint=endpoint,
                    connected_at=self.world.clock.now() - age,
                )
            )

    async def subscribe(
        self, *ids: str, request_id: str = "r1", types: Iterable[EventType] = EventType
    ) -> None:
        for connection_id in ids:
            await self.world.stores.subscriptions.subscribe(connection_id, request_id, types)

    def progress(self, message: str, *, request_id: str = "r1", own: str | None = None) -> None:
        self.notifier.offer(
            ProgressMessage(
                request_id=request_id,
                connection_id=own,
                at=self.world.clock.now(),
                fraction=0.5,
                message=message,
                details=None,
            )
        )

    def complete(self, *, request_id: str = "r1", own: str | None = None) -> None:
        self.notifier.offer(
            CompleteMessage(
                request_id=request_id, connection_id=own, at=self.world.clock.now(), result={}
            )
        )

    def error(self, *, request_id: str = "r1", own: str | None = None) -> None:
        self.notifier.offer(
            ErrorMessage(
                request_id=request_id,
                connection_id=own,
                at=self.world.clock.now(),
                code="NO",
                text="no",
            )
        )

    async def settle(self, seconds: float = 300) -> None:
        await self.notifier.flush(seconds)

    def outcomes(self) -> Counter[tuple[str, str]]:
        return Counter((event.type, event.outcome) for event in self.world.recorder.of(PushTried))


@asynccontextmanager
async def opened(world: World, **settings: Any) -> AsyncIterator[Bench]:
    gateway = Gateway()
    notifier = Notifier(
        connections=world.stores.connections,
        subscriptions=world.stores.subscriptions,
        post=gateway,
        settings=NotifierSettings(**settings),
        events=world.events,
        clock=world.clock,
        rng=world.rng,
    )
    async with notifier:
        yield Bench(world, gateway, notifier)


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


async def test_a_slow_connection_gets_only_the_newest_progress(world: World) -> None:
    """It gets the final message, too. Another connection gets all messages."""
    async with opened(world) as bench:
        await bench.connect("slow", "quick")
        await bench.subscribe("slow", "quick")
        bench.gateway.always["slow"] = 2.5
        for number in range(20):
            bench.progress(str(number))
            await anyio.sleep(0.1)
        bench.complete()
        await bench.settle()
    assert bench.gateway.types("slow") == ["progress", "complete"]
    assert bench.gateway.types("quick") == ["progress"] * 20 + ["complete"]


async def test_a_final_message_overtakes_waiting_progress(world: World) -> None:
    """Progress of the request never comes after it."""
    async with opened(world, progress_rate=1) as bench:
        ids = [f"c{number}" for number in range(50)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        bench.progress("one")
        await anyio.sleep(1.5)
        began = anyio.current_time()
        bench.complete()
        await bench.settle()
        assert anyio.current_time() - began < 1
    assert all(bench.gateway.types(name)[-1] == "complete" for name in ids)
    assert sum(len(bench.gateway.types(name)) for name in ids) <= 53


async def test_progress_does_not_replace_a_waiting_final_message(world: World) -> None:
    """Progress that is offered after the end is dropped while the end waits."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.complete(own="c1")
        bench.progress("late", own="c1")
        await bench.settle()
    assert bench.gateway.types("c1") == ["complete"]


async def test_progress_keeps_to_its_rate(world: World) -> None:
    """`progress_rate` limits the posts per second of all connections together."""
    async with opened(world, progress_rate=50) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        began = anyio.current_time()
        for number in range(100):
            bench.progress(str(number))
            await anyio.sleep(0.1)
        took = anyio.current_time() - began
    assert len(bench.gateway.tried) <= 50 * took + 2
    assert len(bench.gateway.tried) >= 45 * took


async def test_concurrent_posts_are_limited(world: World) -> None:
    """All messages arrive nevertheless."""
    async with opened(world, max_concurrent_posts=7) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        bench.complete()
        await bench.settle()
    assert bench.gateway.most == 7
    assert len(bench.gateway.received) == 100


async def test_a_final_message_is_tried_again(world: World) -> None:
    """It arrives after failures that pass."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("500"), PushFailed("timeout")]
        bench.complete(own="c1")
        await anyio.sleep(5)
    assert bench.gateway.types("c1") == ["complete"]
    assert bench.outcomes() == {("complete", "failed"): 2, ("complete", "sent"): 1}


async def test_progress_is_not_tried_again(world: World) -> None:
    """Newer progress replaces it."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("429")]
        bench.progress("one", own="c1")
        await anyio.sleep(5)
        bench.progress("two", own="c1")
        await anyio.sleep(5)
    assert bench.gateway.messages("c1") == ["two"]


async def test_three_failures_suspend_a_connection(world: World) -> None:
    """Nothing is posted to it for 30 s. The newest messages are kept and posted after that."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("500")] * 3
        for number in range(3):
            bench.progress(str(number), own="c1")
            await anyio.sleep(6)
        (suspended,) = world.recorder.of(ConnectionSuspended)
        assert (suspended.connection_id, suspended.code) == ("c1", "500")
        tried = len(bench.gateway.tried)
        bench.progress("older", own="c1")
        bench.progress("newest", own="c1")
        bench.complete(request_id="r2", own="c1")
        await anyio.sleep(15)
        assert len(bench.gateway.tried) == tried
        await anyio.sleep(15)
    received = bench.gateway.received["c1"]
    assert [message["type"] for message in received] == ["complete", "progress"]
    assert received[1]["message"] == "newest"


async def test_a_final_message_is_given_up_after_a_minute(world: World) -> None:
    """Its outbox is removed."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = PushFailed("500")
        bench.complete(own="c1")
        await anyio.sleep(200)
        tries = [at for at, _ in bench.gateway.tried]
        assert 60 <= tries[-1] - tries[0] <= 95
        assert not bench.notifier._outboxes
    assert len(world.recorder.of(ConnectionSuspended)) == 1


async def test_a_post_has_a_timeout(world: World) -> None:
    """A post that takes longer has failed."""
    async with opened(world, timeout=2) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [3600.0]
        bench.complete(own="c1")
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    failed = [event for event in world.recorder.of(PushTried) if event.outcome == "failed"]
    assert [event.code for event in failed] == ["timeout"]


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


async def test_an_unknown_error_of_a_post_stops_no_delivery(world: World) -> None:
    """StepFailed is emitted, the message is tried again, and other deliveries continue."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1", "c2")
        bench.gateway.answers["c1"] = [RuntimeError("a bug")]
        bench.complete()
        await anyio.sleep(10)
        bench.complete()
        await bench.settle()
    assert len(world.recorder.of(StepFailed)) == 1
    assert bench.gateway.types("c2") == ["complete", "complete"]
    assert bench.gateway.types("c1") == ["complete", "complete"]


async def test_a_flush_waits_until_each_message_was_tried(world: World) -> None:
    """It does not wait for a connection that failed."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1", "c2")
        bench.gateway.always["c1"] = PushFailed("500")
        bench.gateway.always["c2"] = 2.0
        bench.complete()
        began = anyio.current_time()
        await bench.settle()
        assert 2 <= anyio.current_time() - began < 3
    assert bench.gateway.types("c2") == ["complete"]


async def test_the_number_of_topics_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages beyond the limit are dropped, and each drop is emitted."""
    monkeypatch.setattr("streamer_worker.push.notifier._MOST", 10)
    async with opened(world) as bench:
        for number in range(30):
            bench.complete(request_id=f"r{number}")
        await bench.settle()
    assert bench.outcomes() == {("complete", "dropped"): 20}
