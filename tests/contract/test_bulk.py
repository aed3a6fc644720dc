"""Bulk operations: a result for each item, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from contract.bulk_steps import endless, errors_of, new, statuses
from contract.request_steps import claimed, put_raw, raw
from streamer_store import (
    BulkResult,
    Cancelled,
    NotFound,
    Priority,
    RequestNotPending,
    RequestStatus,
    SomeRefused,
    Stores,
    ValidationError,
    WorkerRow,
)
from streamer_store.versions import cancel_version
from support import START, connection

pytestmark = pytest.mark.anyio


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


IDLE = connection("c1", connected_at=START)
BULK: dict[str, Callable[..., Awaitable[Any]]] = {
    "enqueue_many": lambda stores, **options: stores.requests.enqueue_many([new("z")], **options),
    "cancel_many": lambda stores, **options: stores.requests.cancel_many(["z"], **options),
    "redrive_many": lambda stores, **options: stores.requests.redrive_many(["z"], **options),
    "delete_many": lambda stores, **options: stores.requests.delete_many(["z"], **options),
    "save_many": lambda stores, **options: stores.connections.save_many([IDLE], **options),
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
