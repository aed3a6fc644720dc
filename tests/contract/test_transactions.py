"""Writes of several items that stand or fall together."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import anyio
import pytest

from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    Disconnected,
    EventType,
    ItemTooLarge,
    NotFound,
    RequestStatus,
    Stores,
    ValidationError,
)
from streamer_store.conditions import Present, equals
from streamer_store.engine import Check, Delete, Put, TransactionFailed, TransactionPart, Update
from streamer_store.schema import CONNECTIONS, SUBSCRIPTIONS, WORKERS
from support import START, connection

pytestmark = pytest.mark.anyio
COMPLETE = [EventType.COMPLETE]


def echo(request_id: str = "", *, connection_id: str | None = None) -> AsyncRequest:
    return AsyncRequest(action="echo", request_id=request_id, connection_id=connection_id)


async def pending(stores: Stores) -> set[str]:
    found = stores.requests.get_by_status(RequestStatus.PENDING)
    return {request.request_id async for request in found}


async def test_a_request_is_stored_with_its_subscriptions(stores: Stores) -> None:
    """All are there, with the fields that enqueue and subscribe fill in."""
    await stores.connections.save(connection("c1", connected_at=START))
    await stores.connections.save(connection("c2", connected_at=START))
    stored = await stores.requests.enqueue_with_subscriptions(
        echo(connection_id="c1"), {"c1": EventType, "c2": COMPLETE}
    )
    assert await stores.requests.get(stored.request_id) == stored
    assert await pending(stores) == {stored.request_id}
    subscriptions = await stores.subscriptions.get_by_request(stored.request_id)
    assert {each.connection_id: each.event_types for each in subscriptions} == {
        "c1": frozenset(EventType),
        "c2": frozenset(COMPLETE),
    }
    again = await stores.subscriptions.subscribe("c2", stored.request_id, COMPLETE)
    assert again in subscriptions


@pytest.mark.parametrize(("own", "missing"), [("gone", "gone"), (None, "other"), ("c1", "other")])
async def test_nothing_is_stored_without_a_connection(
    stores: Stores, own: str | None, missing: str
) -> None:
    """The error names the connection that is missing: the request's own, or a subscriber."""
    await stores.connections.save(connection("c1", connected_at=START))
    subscribers = {"c1": EventType, **({} if missing == "gone" else {"other": EventType})}
    with pytest.raises(NotFound) as raised:
        await stores.requests.enqueue_with_subscriptions(echo("r1", connection_id=own), subscribers)
    assert raised.value.key == missing
    assert raised.value.table == stores.engine.table_name(CONNECTIONS)
    assert await pending(stores) == set()
    assert await stores.subscriptions.get_by_request("r1") == []


async def test_a_connection_need_not_be_there(stores: Stores) -> None:
    """With `require_connection` off, a connection may be saved later."""
    stored = await stores.requests.enqueue_with_subscriptions(
        echo(connection_id="gone"), {"gone": EventType}, require_connection=False
    )
    assert len(await stores.subscriptions.get_by_request(stored.request_id)) == 1


async def test_an_id_that_is_taken_leaves_everything_as_it_was(stores: Stores) -> None:
    """Neither the request nor subscriptions change."""
    first = await stores.requests.enqueue(echo("r1"))
    with pytest.raises(AlreadyExists) as raised:
        await stores.requests.enqueue_with_subscriptions(
            echo("r1"), {"c1": EventType}, require_connection=False
        )
    assert raised.value.key == "r1"
    assert await stores.requests.get("r1") == first
    assert await stores.subscriptions.get_by_request("r1") == []


async def test_requests_are_stored_together(stores: Stores) -> None:
    """A hundred at once, in the order given."""
    stored = await stores.requests.enqueue_all(echo(f"r{number}") for number in range(100))
    assert [request.request_id for request in stored] == [f"r{number}" for number in range(100)]
    assert await pending(stores) == {request.request_id for request in stored}


async def test_of_requests_with_a_taken_id_none_is_stored(stores: Stores) -> None:
    """The error names the ids that are taken."""
    await stores.requests.enqueue(echo("r1"))
    await stores.requests.enqueue(echo("r3"))
    with pytest.raises(AlreadyExists) as raised:
        await stores.requests.enqueue_all([echo(f"r{number}") for number in range(5)])
    assert raised.value.key == "r1,r3"
    assert await pending(stores) == {"r1", "r3"}


async def test_more_than_a_hundred_are_refused(stores: Stores) -> None:
    """Before anything is written. So is an id that is there twice. None is no error."""
    with pytest.raises(ValidationError, match=r"requests: .* 101 parts .* 100"):
        await stores.requests.enqueue_all([echo() for _ in range(101)])
    with pytest.raises(ValidationError, match="subscriptions"):
        await stores.requests.enqueue_with_subscriptions(
            echo(), {f"c{number}": EventType for number in range(50)}
        )
    with pytest.raises(ValidationError, match="two have the same id"):
        await stores.requests.enqueue_all([echo("r1"), echo("r1")])
    assert await stores.requests.enqueue_all([]) == []
    assert await pending(stores) == set()


async def test_requests_that_are_too_large_together_are_refused(stores: Stores) -> None:
    """A transaction takes 4 MB. Ten large requests still fit."""
    large = [
        AsyncRequest(action="echo", request_id=f"r{number}", payload={"text": "x" * 390_000})
        for number in range(11)
    ]
    with pytest.raises(ItemTooLarge, match=r"requests: together they would be \d+ bytes"):
        await stores.requests.enqueue_all(large)
    assert await pending(stores) == set()
    await stores.requests.enqueue_all(large[:10])
    assert len(await pending(stores)) == 10


async def test_a_connection_is_removed_with_its_subscriptions(stores: Stores) -> None:
    """Those of other connections are kept, and so is what runs or waits. It may be repeated."""
    for name in ("c1", "c2"):
        await stores.connections.save(connection(name, connected_at=START))
        await stores.subscriptions.subscribe(name, "r1")
    await stores.requests.enqueue(echo("r1", connection_id="c1"))
    assert await stores.disconnect("c1") == Disconnected(subscriptions=1)
    with pytest.raises(NotFound):
        await stores.connections.get("c1")
    await stores.connections.get("c2")
    (left,) = await stores.subscriptions.get_by_request("r1")
    assert left.connection_id == "c2"
    assert await pending(stores) == {"r1"}
    assert await stores.disconnect("c1") == Disconnected()


async def test_what_waits_for_a_connection_is_cancelled(stores: Stores) -> None:
    """Requests that run or have ended, and those of other connections, are kept."""
    await stores.connections.save(connection("c1", connected_at=START))
    for number in range(30):
        await stores.requests.enqueue(echo(f"r{number:02}", connection_id="c1"))
    claims = await stores.requests.dequeue(limit=3)
    await stores.requests.enqueue(echo("other", connection_id="c2"))
    await stores.requests.complete(claims[0])
    await stores.requests.retry(claims[1], timedelta(minutes=1))
    kept = {claims[0].request_id, claims[2].request_id, "other"}
    done = await stores.disconnect("c1", cancel_requests=True)
    assert done == Disconnected(cancelled=28)
    found = await stores.requests.get_many([f"r{number:02}" for number in range(30)] + ["other"])
    cancelled = {key for key, each in found.items() if each.status is RequestStatus.CANCELLED}
    assert cancelled == found.keys() - kept


async def test_more_subscriptions_than_a_transaction_takes(stores: Stores) -> None:
    """They are deleted too."""
    await stores.connections.save(connection("c1", connected_at=START))
    for number in range(120):
        await stores.subscriptions.subscribe("c1", f"r{number}")
    assert (await stores.disconnect("c1")).subscriptions == 120
    assert await stores.subscriptions.get_by_connection("c1") == []
    with pytest.raises(NotFound):
        await stores.connections.get("c1")


async def test_a_transaction_with_all_kinds_of_parts(stores: Stores) -> None:
    """Each does what it does alone. The failed ones are named by position, with their items."""
    engine = stores.engine
    old = {"WorkerID": {"S": "w1"}, "Beat": {"N": "1"}}
    await engine.put(Put(table=WORKERS, item=old))
    await engine.put(Put(table=WORKERS, item={"WorkerID": {"S": "w2"}}))
    check = Check(table=WORKERS, key="w1", conditions=(Present("WorkerID"),))
    parts: list[TransactionPart] = [
        Put(table=SUBSCRIPTIONS, item={"SubscriptionID": {"S": "s1"}}),
        Update(table=WORKERS, key="w3", sets={"Host": {"S": "h"}}, adds={"Beat": {"N": "2"}}),
        Delete(table=WORKERS, key="w2"),
        check,
    ]
    unmet = equals("Beat", {"N": "5"})
    failing: list[TransactionPart] = [
        Delete(table=WORKERS, key="none", conditions=(unmet,)),
        Check(table=WORKERS, key="w1", conditions=(unmet,)),
    ]
    with pytest.raises(TransactionFailed) as raised:
        await engine.transact([*parts[:3], *failing])
    assert raised.value.old == {3: None, 4: old}
    assert await engine.get(SUBSCRIPTIONS, "s1") is None
    await engine.transact(parts)
    assert await engine.get(SUBSCRIPTIONS, "s1") == {"SubscriptionID": {"S": "s1"}}
    updated = {"WorkerID": {"S": "w3"}, "Host": {"S": "h"}, "Beat": {"N": "2"}}
    assert await engine.get(WORKERS, "w3") == updated
    assert await engine.get(WORKERS, "w2") is None
    assert await engine.get(WORKERS, "w1") == old


async def test_an_item_that_is_too_large_stops_all(stores: Stores) -> None:
    """DynamoDB names it in the reasons of the cancellation, or refuses the whole call."""
    large = {"WorkerID": {"S": "w1"}, "Host": {"S": "x" * 410_000}}
    with pytest.raises(ItemTooLarge):
        await stores.engine.transact(
            [
                Put(table=SUBSCRIPTIONS, item={"SubscriptionID": {"S": "s1"}}),
                Put(table=WORKERS, item=large),
            ]
        )
    assert await stores.engine.get(SUBSCRIPTIONS, "s1") is None


@pytest.mark.local
async def test_overlapping_transactions_are_stored_whole_or_not_at_all(
    local_stores: Stores,
) -> None:
    """Twenty at once, whose ids overlap. Conflicts are waited for, so each ends by a condition."""
    stored: list[set[str]] = []
    refused = 0

    async def enqueue(first: int) -> None:
        nonlocal refused
        ids = [f"r{number}" for number in range(first, first + 5)]
        try:
            await local_stores.requests.enqueue_all(echo(name) for name in ids)
            stored.append(set(ids))
        except AlreadyExists:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for first in range(20):
            tasks.start_soon(enqueue, first)
    assert refused == 20 - len(stored)
    assert sum(map(len, stored)) == len(set().union(*stored))
    assert await pending(local_stores) == set().union(*stored)


@pytest.mark.local
async def test_connections_that_come_and_go_leave_no_orphans(local_stores: Stores) -> None:
    """A request is stored before its connection is removed, or refused: never after."""
    for number in range(10):
        await local_stores.connections.save(connection(f"c{number}", connected_at=START))
    stored: list[str] = []

    async def enqueue(name: str) -> None:
        request = echo(f"of-{name}", connection_id=name)
        with suppress(NotFound):
            await local_stores.requests.enqueue_with_subscriptions(request, {name: EventType})
            stored.append(name)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(enqueue, f"c{number}")
            tasks.start_soon(local_stores.disconnect, f"c{number}")
    for number in range(10):
        await local_stores.disconnect(f"c{number}", cancel_requests=True)
    assert await local_stores.connections.get_many([f"c{number}" for number in range(10)]) == {}
    assert not await local_stores.subscriptions.any_exist()
    found = await local_stores.requests.get_many([f"of-c{number}" for number in range(10)])
    assert {key.removeprefix("of-") for key in found} == set(stored)
    assert {request.status for request in found.values()} <= {RequestStatus.CANCELLED}
