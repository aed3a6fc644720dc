"""From a message to all who want it, in virtual time."""

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
    """A Post that answers as it was told to, connection by connection."""

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
        return [each["type"] for each in self.received.get(connection_id, [])]

    def messages(self, connection_id: str) -> list[str]:
        return [each["message"] for each in self.received.get(connection_id, [])]


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
        return Counter((each.type, each.outcome) for each in self.world.recorder.of(PushTried))


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


async def test_who_wants_it_is_told(world: World) -> None:
    """The own connection of all, subscribers of what they asked for, others of nothing."""
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


async def test_a_connection_that_a_go_producer_has_stored_is_told(world: World) -> None:
    """With Go's zero time for ConnectedAt, and with event types that this release does not know:
    the known ones count, and a subscription to others alone is one to nothing.
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
        for each, types in {"own": ["complete", "log"], "silent": ["log"]}.items():
            item = own | {"ConnectionID": {"S": each}}
            await engine.put(Put(table=CONNECTIONS, item=item))
            subscription: dict[str, Any] = {
                "SubscriptionID": {"S": f"{each}#r1"},
                "ConnectionID": {"S": each},
                "RequestID": {"S": "r1"},
                "EventTypes": {"SS": types},
            }
            await engine.put(Put(table=SUBSCRIPTIONS, item=subscription))
        bench.progress("one", own="own")
        await bench.settle()
        bench.complete(own="own")
        await bench.settle()
        # It is not new: a 410 removes it.
        bench.gateway.always["own"] = Gone("the connection is closed")
        bench.complete(own="own")
        await bench.settle()
    assert bench.gateway.types("own") == ["complete"]
    assert bench.gateway.types("silent") == []
    assert await engine.get(CONNECTIONS, "own") is None


async def test_an_own_connection_may_ask_for_less(world: World) -> None:
    """Its subscription says what it wants, and it is told once."""
    async with opened(world) as bench:
        await bench.connect("own")
        await bench.subscribe("own", types=[EventType.COMPLETE])
        bench.progress("one", own="own")
        await bench.settle()
        bench.complete(own="own")
        await bench.settle()
    assert bench.gateway.types("own") == ["complete"]


async def test_nobody_waits(world: World) -> None:
    """Nothing is posted, and nothing stays behind."""
    async with opened(world) as bench:
        bench.progress("one", own="gone long ago")
        bench.complete()
        await bench.settle()
    assert bench.gateway.tried == []
    assert bench.outcomes() == {}


async def test_a_slow_connection_is_sent_the_newest_progress_only(world: World) -> None:
    """And the end after it; another one is sent all."""
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


async def test_an_end_overtakes_progress_that_waits(world: World) -> None:
    """And progress never comes after it."""
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
    assert all(bench.gateway.types(each)[-1] == "complete" for each in ids)
    assert sum(len(bench.gateway.types(each)) for each in ids) <= 53


async def test_progress_keeps_its_pace(world: World) -> None:
    """So many a second in all, however many wait."""
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


async def test_only_so_many_posts_are_under_way(world: World) -> None:
    """And all are told."""
    async with opened(world, max_concurrent_posts=7) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        bench.complete()
        await bench.settle()
    assert bench.gateway.most == 7
    assert len(bench.gateway.received) == 100


async def test_an_end_is_tried_again(world: World) -> None:
    """What failed for a moment arrives."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("500"), PushFailed("timeout")]
        bench.complete(own="c1")
        await anyio.sleep(5)
    assert bench.gateway.types("c1") == ["complete"]
    assert bench.outcomes() == {("complete", "failed"): 2, ("complete", "sent"): 1}


async def test_progress_is_not_tried_again(world: World) -> None:
    """Newer progress will come."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("429")]
        bench.progress("one", own="c1")
        await anyio.sleep(5)
        bench.progress("two", own="c1")
        await anyio.sleep(5)
    assert bench.gateway.messages("c1") == ["two"]


async def test_three_failures_rest_a_connection(world: World) -> None:
    """For 30 s nothing is posted to it; the newest is kept, and told then."""
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
    assert [each["type"] for each in received] == ["complete", "progress"]
    assert received[1]["message"] == "newest"


async def test_an_end_is_given_up_after_a_minute_or_so(world: World) -> None:
    """And nothing of it stays behind."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = PushFailed("500")
        bench.complete(own="c1")
        await anyio.sleep(200)
        tries = [at for at, _ in bench.gateway.tried]
        assert 60 <= tries[-1] - tries[0] <= 95
        assert not bench.notifier._outboxes
    assert len(world.recorder.of(ConnectionSuspended)) == 1


async def test_a_post_has_its_time(world: World) -> None:
    """Then it has failed."""
    async with opened(world, timeout=2) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [3600.0]
        bench.complete(own="c1")
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    failed = [each for each in world.recorder.of(PushTried) if each.outcome == "failed"]
    assert [each.code for each in failed] == ["timeout"]


async def test_a_connection_that_is_gone_goes(world: World) -> None:
    """With its subscriptions, and all that waited for it."""
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


async def test_a_connection_that_has_just_come_is_not_gone(world: World) -> None:
    """API Gateway says so until its $connect has returned: it is tried again."""
    async with opened(world) as bench:
        await bench.connect("c1", age=timedelta(seconds=1))
        bench.gateway.answers["c1"] = [Gone("closed"), Gone("closed")]
        bench.complete(own="c1")
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    await world.stores.connections.get("c1")


async def test_subscriptions_of_nobody_go(world: World) -> None:
    """What a crash has left; a new one's connection may be about to come."""
    async with opened(world) as bench:
        await bench.subscribe("nobody")
        await anyio.sleep(11)
        await bench.subscribe("soon")
        bench.complete()
        await bench.settle()
        await anyio.sleep(1)
        left = await world.stores.subscriptions.get_by_request("r1")
    assert [each.connection_id for each in left] == ["soon"]


async def test_an_orphan_that_cannot_be_judged_is_reported(world: World) -> None:
    """A policy without GetItem must not keep subscriptions of gone connections in silence."""
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
async def test_other_endpoints_are_never_called(world: World, endpoint: str) -> None:
    """They are counted and told; the connection stays."""
    async with opened(world) as bench:
        await bench.connect("c1", endpoint=endpoint)
        bench.complete(own="c1")
        await bench.settle()
    assert bench.gateway.tried == []
    assert len(world.recorder.of(EndpointRefused)) == 1
    assert bench.outcomes() == {("complete", "refused"): 1}
    await world.stores.connections.get("c1")


async def test_an_end_waits_for_the_table(world: World) -> None:
    """Who wants it is asked a few times; progress is not worth that."""
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


async def test_who_wants_progress_is_asked_now_and_then(world: World) -> None:
    """Not for each report: 50 of them in five seconds are one or two questions."""
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


async def test_an_error_that_nobody_knows_ends_nothing(world: World) -> None:
    """It is told, and the end tried again; others, and later messages, are told as ever."""
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


async def test_flushing_waits_for_what_can_be_tried(world: World) -> None:
    """Not for a connection that rests."""
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


async def test_its_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much is dropped, and counted."""
    monkeypatch.setattr("streamer_worker.push.notifier._MOST", 10)
    async with opened(world) as bench:
        for number in range(30):
            bench.complete(request_id=f"r{number}")
        await bench.settle()
    assert bench.outcomes() == {("complete", "dropped"): 20}
