"""Enqueueing, reading and deleting requests."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contract.request_steps import put_raw
from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    ItemTooLarge,
    NotFound,
    RequestStatus,
    SomeRefused,
    Stores,
    Undecodable,
    ValidationError,
)
from streamer_store.times import epoch
from support import START

pytestmark = pytest.mark.anyio


async def test_a_request_is_enqueued_claimed_and_completed(stores: Stores) -> None:
    """Each step is stored, and the request is listed under its status."""
    stored = await stores.requests.enqueue(
        AsyncRequest(action="echo", connection_id="c1", payload={"n": 1.5, "deep": [{"a": None}]})
    )
    page = await stores.requests.entries(RequestStatus.PENDING, limit=10)
    assert [candidate.request_id for candidate in page.candidates] == [stored.request_id]
    claim = await stores.requests.claim(page.candidates[0], worker_id="w1")
    assert claim.request.payload == {"n": 1.5, "deep": [{"a": None}]}
    assert claim.request.status is RequestStatus.PROCESSING
    await stores.requests.update_progress(claim, 0.5, "half", {"rows": 3})
    await stores.requests.complete(claim, {"ok": True})
    done = await stores.requests.get(stored.request_id)
    assert done.status is RequestStatus.COMPLETED
    assert done.result == {"ok": True}
    assert done.progress == 1
    assert done.progress_message == "half"
    assert done.worker_id == "w1"


async def test_enqueue_fills_in_what_is_missing(stores: Stores) -> None:
    """The id is new, CreatedAt is now and TTL seven days later. Given values are kept."""
    stored = await stores.requests.enqueue(AsyncRequest(action="echo", max_retries=0))
    assert stored == await stores.requests.get(stored.request_id)
    assert stored.created_at == START
    assert stored.ttl == epoch(START, timedelta(days=7))
    assert stored.max_retries == 0
    other = await stores.requests.enqueue(AsyncRequest(action="echo", ttl=99))
    assert other.ttl == 99
    assert other.request_id != stored.request_id


async def test_enqueue_never_overwrites(stores: Stores) -> None:
    """An id that is taken is refused, and the stored request is unchanged."""
    await stores.requests.enqueue(AsyncRequest(action="one", request_id="r1"))
    with pytest.raises(AlreadyExists) as caught:
        await stores.requests.enqueue(AsyncRequest(action="two", request_id="r1"))
    assert caught.value.key == "r1"
    assert (await stores.requests.get("r1")).action == "one"


async def test_enqueue_refuses_a_request_that_is_not_new(stores: Stores) -> None:
    """Only PENDING requests can be enqueued."""
    with pytest.raises(ValidationError, match="status"):
        await stores.requests.enqueue(AsyncRequest(action="a", status=RequestStatus.COMPLETED))


async def test_enqueue_measures_before_it_writes(stores: Stores) -> None:
    """Over 392 KB it raises ItemTooLarge with the size, and nothing is stored."""
    large = AsyncRequest(action="echo", request_id="r1", payload={"text": "x" * 401_500})
    with pytest.raises(ItemTooLarge) as caught:
        await stores.requests.enqueue(large)
    assert caught.value.field == "payload"
    assert caught.value.size is not None
    assert 401_500 < caught.value.size < 402_500
    assert str(caught.value.size) in str(caught.value)
    with pytest.raises(NotFound):
        await stores.requests.get("r1")


async def test_the_largest_request_can_be_run(stores: Stores) -> None:
    """The free 8 KB hold what the worker writes."""
    large = AsyncRequest(action="echo", request_id="r1", payload={"text": "x" * 401_000})
    await stores.requests.enqueue(large)
    (claim,) = await stores.requests.dequeue(1)
    await stores.requests.update_progress(claim, 0.5, "m" * 1000)
    await stores.requests.fail(claim, "e" * 2000, "CODE")
    assert (await stores.requests.get("r1")).error_code == "CODE"


async def test_get_many_returns_what_exists(stores: Stores) -> None:
    """Requests are in the order of the ids, once each, without the missing ones."""
    for request_id in ("a", "b", "c"):
        await stores.requests.enqueue(AsyncRequest(action="echo", request_id=request_id))
    assert list(await stores.requests.get_many(["c", "nobody", "a", "c"])) == ["c", "a"]
    assert await stores.requests.get_many([]) == {}


async def test_get_raises_not_found_or_undecodable(stores: Stores) -> None:
    """A missing request is NotFound, an undecodable one Undecodable."""
    with pytest.raises(NotFound, match="nobody"):
        await stores.requests.get("nobody")
    with pytest.raises(ValidationError, match="request_id"):
        await stores.requests.get("")
    await put_raw(stores, {"RequestID": {"S": "r1"}, "Status": {"S": "ASLEEP"}})
    with pytest.raises(Undecodable, match="Status"):
        await stores.requests.get("r1")


async def test_deleting_a_missing_request_succeeds(stores: Stores) -> None:
    """A request is deleted, and deleting it again is no error."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1"))
    await stores.requests.delete("r1")
    await stores.requests.delete("r1")
    assert await stores.requests.get_many(["r1"]) == {}


@pytest.mark.parametrize("request_id", ["unique#1", "cron#nightly#1", "control#limit#echo"])
async def test_reserved_ids_are_refused(stores: Stores, request_id: str) -> None:
    """A producer cannot take the id of a unique request, a tick or a control item."""
    request = AsyncRequest(action="echo", request_id=request_id)
    with pytest.raises(ValidationError, match="reserved"):
        await stores.requests.enqueue(request)
    with pytest.raises(ValidationError, match="reserved"):
        await stores.requests.enqueue_all([request])
    with pytest.raises(SomeRefused, match="reserved"):
        await stores.requests.enqueue_many([request])
