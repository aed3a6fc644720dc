"""Requests that are enqueued in bulk, each stored or refused alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contract.bulk_steps import new
from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    BulkResult,
    ItemTooLarge,
    RequestStatus,
    SomeRefused,
    Stores,
    ValidationError,
)

pytestmark = pytest.mark.anyio


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
