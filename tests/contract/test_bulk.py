"""Bulk operations: a result for each item, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from contract.request_steps import claimed, put_raw, raw
from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    BulkResult,
    Cancelled,
    EventType,
    ItemTooLarge,
    NotFound,
    Priority,
    RequestNotPending,
    RequestStatus,
    SomeRefused,
    Stores,
    Subscription,
    ValidationError,
    WorkerRow,
)
from streamer_store.versions import cancel_version
from support import START, connection

pytestmark = pytest.mark.anyio


def new(request_id: str, **fields: Any) -> AsyncRequest:
    return AsyncRequest(action="echo", request_id=request_id, **fields)


async def statuses(stores: Stores, *request_ids: str) -> list[str]:
    found = await stores.requests.get_many(request_ids)
    return [found[request_id].status.value for request_id in request_ids if request_id in found]


def errors_of(results: Iterable[BulkResult[Any]]) -> dict[str, type[Exception] | None]:
    return {result.key: None if result.error is None else type(result.error) for result in results}


async def endless(*keys: Any) -> AsyncIterator[Any]:
    for key in keys:
        yield key


async def test_enqueue_many_stores_more_than_a_batch(stores: Stores) -> None:
    """The records are the requests as stored, in order."""
    summary = await stores.requests.enqueue_many(
        AsyncRequest(action="echo", payload={"number": number}) for number in range(260)
    )
    assert (summary.done, summary.refused) == (260, 0)
    stored = summary.records
    requests = await stores.requests.get_many(request.request_id for request in stored)
    assert list(requests.values()) == stored
    assert [request.payload for request in stored] == [{"number": number} for number in range(260)]


async def test_enqueue_many_refuses_each_bad_request_alone(stores: Stores) -> None:
    """An id that is taken, a payload that cannot be stored and one that is too large."""
    await stores.requests.enqueue(replace(new("taken"), action="first"))
    results: list[BulkResult[AsyncRequest]] = []
    requests = [
        new("a"),
        new("taken"),
        new("nan", payload={"bad": float("nan")}),
        new("large", payload={"text": "x" * 402_000}),
        new("running", status=RequestStatus.PROCESSING),
        new("b"),
        {"action": "no request"},
    ]
    summary = await stores.requests.enqueue_many(requests, on_result=results.append)  # type: ignore[arg-type]
    assert (summary.done, summary.refused, list(summary.results)) == (2, 5, [])
    results.sort(key=lambda result: result.position)
    assert [result.position for result in results] == list(range(7))
    assert [type(result.error) for result in results] == [
        type(None),
        AlreadyExists,
        ValidationError,
        ItemTooLarge,
        ValidationError,
        type(None),
        ValidationError,
    ]
    assert all(
        result.error is None or result.error.operation == "enqueue_many" for result in results
    )
    stored = await stores.requests.get_many(["a", "taken", "nan", "large", "running", "b"])
    assert {key: request.action for key, request in stored.items()} == {
        "a": "echo",
        "taken": "first",
        "b": "echo",
    }


async def test_of_two_requests_with_one_id_the_second_is_refused(stores: Stores) -> None:
    """One is stored, and its record is what is stored."""
    with pytest.raises(SomeRefused, match="1 of 2 items were refused") as caught:
        await stores.requests.enqueue_many([new("a", payload={"n": 1}), new("a", payload={"n": 2})])
    summary = caught.value.summary
    assert [type(result.error) for result in summary.results].count(AlreadyExists) == 1
    assert summary.records == [await stores.requests.get("a")]


async def test_without_on_result_a_refused_item_raises_in_the_end(stores: Stores) -> None:
    """The other items are done, and the error has the result of each."""
    with pytest.raises(SomeRefused) as caught:
        await stores.requests.cancel_many(["nobody"])
    assert "1 of 1 items were refused; the first: no such request" in str(caught.value)
    assert (caught.value.operation, caught.value.key) == ("cancel_many", "nobody")
    await stores.requests.enqueue_many([new("a"), new("b")])
    with pytest.raises(SomeRefused) as caught:
        await stores.requests.cancel_many(["a", "nobody", "b"])
    assert errors_of(caught.value.summary.results) == {"a": None, "nobody": NotFound, "b": None}
    assert await statuses(stores, "a", "b") == ["CANCELLED", "CANCELLED"]


async def test_no_items_are_no_error(stores: Stores) -> None:
    requests = stores.requests
    for summary in (
        await requests.enqueue_many([]),
        await requests.cancel_many([]),
        await requests.redrive_many(endless()),
        await requests.delete_many([]),
        await requests.delete_many([], statuses=[RequestStatus.FAILED]),
        await requests.cancel_by_connection("nobody"),
        await requests.delete_by_connection("nobody"),
        await stores.connections.save_many([]),
        await stores.subscriptions.delete_many([]),
    ):
        assert (summary.done, summary.refused, list(summary.results)) == (0, 0, [])


async def test_cancel_many_is_cancel_for_each(stores: Stores) -> None:
    """What waits or runs is cancelled, what is cancelled is done, what has ended is refused."""
    await stores.workers.register(WorkerRow(worker_id="w1", started_at=START))
    claim = await claimed(stores, "running")
    await stores.requests.complete(await claimed(stores, "completed"), {})
    await stores.requests.enqueue_many([new("waiting"), new("later", priority=Priority.LOW)])
    await stores.requests.enqueue(new("cancelled"))
    await stores.requests.cancel("cancelled")
    results: list[BulkResult[None]] = []
    ids = ["waiting", "running", "completed", "cancelled", "nobody", "later", "", "waiting"]
    summary = await stores.requests.cancel_many(endless(*ids), on_result=results.append)
    assert (summary.done, summary.refused) == (5, 3)
    assert errors_of(results) == {
        "waiting": None,
        "running": None,
        "completed": RequestNotPending,
        "cancelled": None,
        "nobody": NotFound,
        "later": None,
        "": ValidationError,
    }
    assert await statuses(stores, "waiting", "running", "later") == ["CANCELLED"] * 3
    (row,) = await stores.workers.list()
    assert row.cancel == {cancel_version(claim.version)}
    with pytest.raises(Cancelled):
        await stores.requests.complete(claim, {})


async def test_a_request_cancelled_in_bulk_is_as_one_cancelled_alone(stores: Stores) -> None:
    """Both leave the same attributes, but for their ids and Versions."""
    await stores.requests.enqueue_many(
        [new("one", payload={"n": 1}), new("many", payload={"n": 1})]
    )
    await stores.requests.cancel("one")
    await stores.requests.cancel_many(["many"])
    one, many = dict(await raw(stores, "one")), dict(await raw(stores, "many"))
    for name in ("RequestID", "Version"):
        assert one.pop(name) != many.pop(name)
    assert one == many


async def test_redrive_many_is_redrive_for_each(stores: Stores) -> None:
    """Failed and cancelled requests wait again, low ones are SCHEDULED, others are refused."""
    await stores.requests.fail(await claimed(stores, "failed"), "why", "CODE")
    await stores.requests.enqueue_many([new("cancelled"), new("low", priority=Priority.LOW)])
    await stores.requests.cancel_many(["cancelled", "low"])
    await stores.requests.enqueue(new("waiting"))
    results: list[BulkResult[None]] = []
    ids = ["failed", "cancelled", "low", "waiting", "nobody"]
    await stores.requests.redrive_many(ids, on_result=results.append)
    assert errors_of(results) == {
        "failed": None,
        "cancelled": None,
        "low": None,
        "waiting": RequestNotPending,
        "nobody": NotFound,
    }
    found = await statuses(stores, "failed", "cancelled", "low")
    assert found == ["PENDING", "PENDING", "SCHEDULED"]
    assert (await stores.requests.get("failed")).error is None
    assert len(await stores.requests.dequeue(10)) == 4


async def test_other_statuses_than_those_asked_for_are_refused(stores: Stores) -> None:
    """A request that was cancelled, or claimed, since it was selected is left alone."""
    await claimed(stores, "running")
    await stores.requests.enqueue_many([new("waiting"), new("cancelled")])
    await stores.requests.cancel("cancelled")
    results: list[BulkResult[None]] = []
    await stores.requests.cancel_many(
        ["running", "waiting"], statuses=[RequestStatus.PENDING], on_result=results.append
    )
    assert errors_of(results) == {"running": RequestNotPending, "waiting": None}
    results.clear()
    await stores.requests.redrive_many(
        ["cancelled"], statuses=[RequestStatus.FAILED], on_result=results.append
    )
    assert errors_of(results) == {"cancelled": RequestNotPending}
    with pytest.raises(ValidationError, match="is not a request status"):
        await stores.requests.redrive_many([], statuses=["NONE"])  # type: ignore[list-item]


async def test_update_status_many_cancels_what_waits_and_redrives_what_ended(
    stores: Stores,
) -> None:
    """As `update_status`: a running request is refused, and so is a status that needs a claim."""
    await claimed(stores, "running")
    await stores.requests.enqueue_many([new("a"), new("b")])
    results: list[BulkResult[None]] = []
    await stores.requests.update_status_many(
        ["a", "running", "b"], RequestStatus.CANCELLED, "not needed", on_result=results.append
    )
    assert errors_of(results) == {"a": None, "running": RequestNotPending, "b": None}
    assert (await stores.requests.get("a")).progress_message == "not needed"
    await stores.requests.update_status_many(["a"], RequestStatus.PENDING)
    assert await statuses(stores, "a", "b") == ["PENDING", "CANCELLED"]
    with pytest.raises(ValidationError, match="only a worker makes requests COMPLETED"):
        await stores.requests.update_status_many(["a"], RequestStatus.COMPLETED)


async def test_delete_many_deletes_in_any_status(stores: Stores) -> None:
    """Absent requests are no error, as for `delete`. More than a call's 25 are deleted."""
    await claimed(stores, "running")
    ids = [f"r{number}" for number in range(60)]
    await stores.requests.enqueue_many(map(new, ids))
    summary = await stores.requests.delete_many([*ids, "running", "nobody", "r0"])
    assert summary.done == 63
    assert await stores.requests.get_many([*ids, "running"]) == {}


async def test_delete_many_of_statuses_refuses_the_others(stores: Stores) -> None:
    """A request that was redriven since it was listed is kept."""
    await stores.requests.complete(await claimed(stores, "completed"), {})
    await stores.requests.fail(await claimed(stores, "redriven"), "why", "CODE")
    await stores.requests.redrive("redriven")
    results: list[BulkResult[None]] = []
    await stores.requests.delete_many(
        ["completed", "redriven", "nobody"],
        statuses=[RequestStatus.COMPLETED, RequestStatus.FAILED],
        on_result=results.append,
    )
    assert errors_of(results) == {
        "completed": None,
        "redriven": RequestNotPending,
        "nobody": NotFound,
    }
    assert await statuses(stores, "completed", "redriven") == ["PENDING"]
    with pytest.raises(ValidationError, match="is not a request status"):
        await stores.requests.delete_many(["a"], statuses=["NONE"])  # type: ignore[list-item]


async def test_by_connection(stores: Stores) -> None:
    """Only the requests of the connection, in the statuses that are asked for."""
    await claimed(stores, "running", connection_id="c1")
    await stores.requests.complete(await claimed(stores, "done", connection_id="c1"), {})
    await stores.requests.enqueue_many(
        [new("a", connection_id="c1"), new("b", connection_id="c1"), new("c", connection_id="c2")]
    )
    summary = await stores.requests.cancel_by_connection("c1", running=False)
    assert {result.key for result in summary.results} == {"a", "b"}
    assert await statuses(stores, "running", "c") == ["PROCESSING", "PENDING"]
    summary = await stores.requests.cancel_by_connection("c1")
    assert [result.key for result in summary.results] == ["running"]
    summary = await stores.requests.delete_by_connection("c1", statuses=[RequestStatus.COMPLETED])
    assert [result.key for result in summary.results] == ["done"]
    assert (await stores.requests.delete_by_connection("c1")).done == 3
    assert await statuses(stores, "running", "done", "a", "b", "c") == ["PENDING"]
    for call in (stores.requests.cancel_by_connection, stores.requests.delete_by_connection):
        with pytest.raises(ValidationError, match="connection_id: must not be empty"):
            await call("")


async def test_an_item_of_another_program_is_changed_or_refused_alone(stores: Stores) -> None:
    """A request without Version and one with an unknown Status."""
    await put_raw(stores, {"RequestID": {"S": "old"}, "Status": {"S": "PENDING"}})
    await put_raw(stores, {"RequestID": {"S": "odd"}, "Status": {"S": "PAUSED"}})
    results: list[BulkResult[None]] = []
    await stores.requests.cancel_many(["old", "odd"], on_result=results.append)
    assert errors_of(results) == {"old": None, "odd": RequestNotPending}
    assert (await raw(stores, "old"))["Status"] == {"S": "CANCELLED"}
    with pytest.raises(SomeRefused, match="the request is PAUSED"):
        await stores.requests.delete_many(["odd", "old"], statuses=[RequestStatus.CANCELLED])
    assert await statuses(stores, "old") == []


@pytest.mark.parametrize("bad", ["", "x" * 2049, "\ud800", None, 7])
async def test_an_id_that_no_item_can_have_is_refused_alone(stores: Stores, bad: Any) -> None:
    """DynamoDB would refuse the whole call. A key has 2,048 bytes at most."""
    await stores.requests.enqueue(new("a"))
    for call in (
        stores.requests.cancel_many,
        stores.requests.redrive_many,
        stores.requests.delete_many,
        stores.connections.delete_many,
        stores.subscriptions.delete_many,
    ):
        results: list[BulkResult[None]] = []
        await call([bad, "a"], on_result=results.append)
        assert errors_of(results) == {"": ValidationError, "a": None}


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


BULK: dict[str, Callable[..., Awaitable[Any]]] = {
    "enqueue_many": lambda stores, **options: stores.requests.enqueue_many([new("z")], **options),
    "cancel_many": lambda stores, **options: stores.requests.cancel_many(["z"], **options),
    "redrive_many": lambda stores, **options: stores.requests.redrive_many(["z"], **options),
    "delete_many": lambda stores, **options: stores.requests.delete_many(["z"], **options),
    "save_many": lambda stores, **options: stores.connections.save_many(CONNECTIONS, **options),
}


@pytest.mark.parametrize("call", BULK.values(), ids=BULK)
@pytest.mark.parametrize("units", [0, -1.0, float("nan")])
async def test_a_limit_that_is_no_rate_is_refused(
    stores: Stores, call: Callable[..., Awaitable[Any]], units: float
) -> None:
    with pytest.raises(ValidationError, match="max_write_units: must be a number more than 0"):
        await call(stores, max_write_units=units)


async def test_a_text_is_no_list_of_ids(stores: Stores) -> None:
    """Its characters would be taken for ids."""
    for call in (stores.requests.cancel_many, stores.connections.delete_many):
        with pytest.raises(ValidationError, match="items: must be a list"):
            await call("request-1")


async def test_a_limit_changes_nothing_else(stores: Stores) -> None:
    """Every operation does with a limit what it does without."""
    ids = [f"r{number}" for number in range(30)]
    for number, call in enumerate(
        (
            stores.requests.cancel_many,
            stores.requests.redrive_many,
            stores.requests.cancel_many,
            stores.requests.delete_many,
        )
    ):
        if not number:
            await stores.requests.enqueue_many(map(new, ids), max_write_units=1e6)
        assert (await call(ids, max_write_units=1e6)).done == 30
    assert await stores.requests.get_many(ids) == {}
