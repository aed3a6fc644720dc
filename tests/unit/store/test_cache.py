"""The cache of connections and subscriptions: each of its bounds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from streamer_store import (
    AsyncRequest,
    Cache,
    CacheUsed,
    EventType,
    NotFound,
    Stores,
    StoreUnavailable,
    ValidationError,
)
from streamer_store.caching_engine import CachingEngine
from streamer_store.engine import Engine, Put
from streamer_store.schema import CONNECTIONS, SUBSCRIPTIONS
from streamer_store.stores import stores_over
from streamer_store.values import Item
from support import START, ManualClock, connection
from unit.worker.faulty_engine import FaultyEngine

pytestmark = pytest.mark.anyio
MAX_AGE = 2.0


class World:
    """Cached stores and those of another process, on the same tables."""

    def __init__(self, **bounds: Any) -> None:
        self.clock = ManualClock()
        self.engine = FaultyEngine()
        self.used: list[CacheUsed] = []
        bounds = {"max_age": MAX_AGE, "max_items": 100} | bounds
        cache = Cache(**bounds, observe=self.used.append)
        self.cached = self._stores(CachingEngine(self.engine, cache=cache, clock=self.clock))
        self.other = self._stores(self.engine)

    def _stores(self, engine: Engine) -> Stores:
        return stores_over(engine, clock=self.clock, rng=random.Random(1))

    def reads(self) -> int:
        """Return how often the table was read since the last call."""
        count = sum(call in {"get", "get_many", "query"} for call in self.engine.calls)
        self.engine.calls.clear()
        return count

    async def save(self, *ids: str, **fields: Any) -> None:
        for connection_id in ids:
            await self.other.connections.save(
                connection(connection_id, connected_at=START, **fields)
            )
        self.reads()


async def test_a_connection_is_read_once_until_it_is_too_old() -> None:
    """By id and in a list. What another process wrote is seen then."""
    world = World()
    await world.save("c1", user_id="before")
    for _ in range(3):
        assert (await world.cached.connections.get("c1")).user_id == "before"
    assert (await world.cached.connections.get_many(["c1"]))["c1"].user_id == "before"
    assert world.reads() == 1
    await world.save("c1", user_id="after")
    world.clock.advance(MAX_AGE - 0.01)
    assert (await world.cached.connections.get("c1")).user_id == "before"
    assert world.reads() == 0
    world.clock.advance(0.01)
    assert (await world.cached.connections.get("c1")).user_id == "after"
    assert world.reads() == 1


async def test_only_what_is_not_cached_is_read() -> None:
    """The answer is in the order of the call."""
    world = World()
    await world.save("c1", "c2", "c3")
    await world.cached.connections.get_many(["c2"])
    assert list(await world.cached.connections.get_many(["c3", "c2", "c1"])) == ["c3", "c2", "c1"]
    assert world.reads() == 2
    assert [(use.hits, use.misses) for use in world.used] == [(0, 1), (1, 2)]


async def test_an_absent_connection_is_cached_for_lists_only() -> None:
    """The caller of `get` may delete what an absent connection has left, so it is read again."""
    world = World()
    for _ in range(3):
        assert await world.cached.connections.get_many(["gone"]) == {}
    assert world.reads() == 1
    await world.save("gone")
    assert (await world.cached.connections.get("gone")).connection_id == "gone"
    assert world.reads() == 1
    await world.cached.connections.get_many(["gone"])
    assert world.reads() == 0


async def test_subscriptions_of_a_request_are_read_once() -> None:
    """An empty list is cached too, lists of a connection are not."""
    world = World()
    await world.other.subscriptions.subscribe("c1", "r1")
    world.reads()
    for _ in range(3):
        assert len(await world.cached.subscriptions.get_by_request("r1")) == 1
        assert await world.cached.subscriptions.get_by_request("r2") == []
    assert world.reads() == 2
    for _ in range(3):
        await world.cached.subscriptions.get_by_connection("c1")
    assert world.reads() == 3


async def test_what_is_absent_need_not_be_cached() -> None:
    """Then a new connection, and a first subscription, are seen at once."""
    world = World(absent=False)
    for _ in range(3):
        assert await world.cached.connections.get_many(["c1"]) == {}
        assert await world.cached.subscriptions.get_by_request("r1") == []
    assert world.reads() == 6
    await world.save("c1")
    await world.other.subscriptions.subscribe("c1", "r1")
    for _ in range(3):
        assert "c1" in await world.cached.connections.get_many(["c1"])
        assert len(await world.cached.subscriptions.get_by_request("r1")) == 1
    assert world.reads() == 2


async def test_subscriptions_need_not_be_cached() -> None:
    """Connections still are."""
    world = World(subscriptions=False)
    await world.save("c1")
    for _ in range(3):
        await world.cached.subscriptions.get_by_request("r1")
        await world.cached.connections.get("c1")
    assert world.reads() == 4
    await world.cached.subscriptions.subscribe("c1", "r1")
    assert len(await world.cached.subscriptions.get_by_request("r1")) == 1


Write = Callable[[Stores], Any]
WRITES: dict[str, Write] = {
    "save": lambda stores: stores.connections.save(
        connection("c1", connected_at=START, user_id="new")
    ),
    "ping": lambda stores: stores.connections.update_last_ping("c1"),
    "delete": lambda stores: stores.connections.delete("c1"),
    "disconnect": lambda stores: stores.disconnect("c1"),
    "subscribe": lambda stores: stores.subscriptions.subscribe("c1", "r1", [EventType.ERROR]),
    "unsubscribe": lambda stores: stores.subscriptions.unsubscribe("c1", "r1"),
    "delete_by_connection": lambda stores: stores.subscriptions.delete_by_connection("c1"),
    "enqueue_with_subscriptions": lambda stores: stores.requests.enqueue_with_subscriptions(
        AsyncRequest(action="echo", request_id="r1"), {"c2": EventType}, require_connection=False
    ),
}


async def everything(stores: Stores) -> Any:
    connections = await stores.connections.get_many(["c1"])
    subscriptions = await stores.subscriptions.get_by_request("r1")
    return connections, sorted(each.connection_id for each in subscriptions), subscriptions


@pytest.mark.parametrize("name", WRITES)
async def test_own_writes_are_seen_at_once(name: str) -> None:
    """Also where the write failed, because it may have taken effect."""
    world = World()
    await world.save("c1")
    await world.other.subscriptions.subscribe("c1", "r1")
    await everything(world.cached)
    world.clock.advance(0.5)
    await WRITES[name](world.cached)
    assert await everything(world.cached) == await everything(world.other)


async def test_a_subscription_of_another_program_is_deleted_at_once() -> None:
    """Its id need not tell the request."""
    world = World()
    item: Item = {
        "SubscriptionID": {"S": "6f0c"},
        "ConnectionID": {"S": "c1"},
        "RequestID": {"S": "r1"},
        "EventTypes": {"SS": ["complete"]},
    }
    await world.other.engine.put(Put(table=SUBSCRIPTIONS, item=item))
    assert len(await world.cached.subscriptions.get_by_request("r1")) == 1
    assert await world.cached.subscriptions.delete_by_connection("c1") == 1
    assert await world.cached.subscriptions.get_by_request("r1") == []


async def test_a_write_whose_answer_is_lost_is_seen() -> None:
    world = World()
    await world.save("c1")
    await world.cached.connections.get("c1")
    world.engine.fail("delete", lands=True)
    with pytest.raises(StoreUnavailable):
        await world.cached.connections.delete("c1")
    with pytest.raises(NotFound):
        await world.cached.connections.get("c1")


async def test_simultaneous_reads_are_one_read() -> None:
    """A thousand calls for the same connection, of which the first reads."""
    world = World()
    await world.save("c1")
    held = world.engine.hold("get")
    found: list[str] = []

    async def read() -> None:
        found.append((await world.cached.connections.get("c1")).connection_id)

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(read)
        await held.wait_reached()
        await anyio.wait_all_tasks_blocked()
        held.let_go()
    assert found == ["c1"] * 1000
    assert world.reads() == 1
    assert sum(use.hits for use in world.used) == 999


async def test_a_read_that_fails_fails_for_all_and_is_not_cached() -> None:
    """Each caller gets an error of its own, since Python adds to its traceback."""
    world = World()
    await world.save("c1")
    held = world.engine.hold("get")
    held.error = StoreUnavailable("away")
    errors: list[StoreUnavailable] = []

    async def read() -> None:
        try:
            await world.cached.connections.get("c1")
        except StoreUnavailable as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        held.let_go()
    assert len({id(error) for error in errors}) == 3
    assert (await world.cached.connections.get("c1")).connection_id == "c1"


async def test_the_others_read_if_the_reader_is_cancelled() -> None:
    """One of them, for all."""
    world = World()
    await world.save("c1")
    world.engine.hold("get")
    found: list[str] = []

    async def read() -> None:
        found.append((await world.cached.connections.get("c1")).connection_id)

    first = anyio.CancelScope()

    async def read_first() -> None:
        with first:
            await read()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_first)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
    assert found == ["c1"] * 3
    assert world.reads() == 2


async def test_a_read_that_began_before_a_write_is_not_cached() -> None:
    """It may have read what was before the write."""
    world = World()
    await world.save("c1", user_id="before")
    held = world.engine.hold("get", lands=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.cached.connections.get, "c1")
        await held.wait_reached()
        await world.cached.connections.save(connection("c1", connected_at=START, user_id="after"))
        assert (await world.cached.connections.get("c1")).user_id == "after"
        held.let_go()
    assert (await world.cached.connections.get("c1")).user_id == "after"


async def test_a_slow_read_is_not_joined_when_it_is_too_old() -> None:
    """The bound counts from the beginning of the read."""
    world = World()
    await world.save("c1", user_id="before")
    held = world.engine.hold("get", lands=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.cached.connections.get, "c1")
        await held.wait_reached()
        await world.save("c1", user_id="after")
        world.clock.advance(MAX_AGE)
        assert (await world.cached.connections.get("c1")).user_id == "after"
        held.let_go()
    assert (await world.cached.connections.get("c1")).user_id == "after"


async def test_the_number_of_entries_is_bounded() -> None:
    """The one that was used longest ago gives way, and that is counted."""
    world = World(max_items=2)
    await world.save("c1", "c2", "c3")
    for name in ("c1", "c2", "c1", "c3", "c1"):
        await world.cached.connections.get(name)
    assert world.reads() == 3
    assert sum(use.evictions for use in world.used) == 1
    await world.cached.connections.get("c2")
    assert world.reads() == 1


async def test_the_age_of_what_is_served_is_observed() -> None:
    world = World()
    await world.save("c1")
    await world.cached.connections.get("c1")
    world.clock.advance(1.5)
    await world.cached.connections.get("c1")
    table = world.engine.table_name(CONNECTIONS)
    assert world.used == [
        CacheUsed(table=table, hits=0, misses=1, evictions=0, age=0),
        CacheUsed(table=table, hits=1, misses=0, evictions=0, age=1.5),
    ]
    await world.cached.subscriptions.get_by_request("r1")
    assert world.used[-1].table == world.engine.table_name(SUBSCRIPTIONS)


async def test_without_age_every_call_reads() -> None:
    world = World(max_age=0)
    await world.save("c1")
    for _ in range(3):
        await world.cached.connections.get("c1")
        await world.cached.subscriptions.get_by_request("r1")
    assert world.reads() == 6


@pytest.mark.parametrize(
    "bounds",
    [
        *({"max_age": age} for age in (-1, float("inf"), float("nan"), "1", True, None)),
        *({"max_items": items} for items in (0, 1.5, None, True)),
    ],
)
def test_bounds_without_sense_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must be"):
        Cache(**bounds)
