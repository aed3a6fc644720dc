"""Claims, and the writes that need a claim."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from contract.request_steps import candidate, claimed, put_raw, raw, reclaimed
from streamer_store import (
    AsyncRequest,
    Cancelled,
    ClaimLost,
    ConcurrentModification,
    ItemTooLarge,
    NotFound,
    Priority,
    RequestNotPending,
    RequestStatus,
    Stores,
    Undecodable,
    ValidationError,
)
from streamer_store.times import epoch
from support import START

if TYPE_CHECKING:
    from streamer_store.values import Item
    from support import ManualClock

pytestmark = pytest.mark.anyio
WEEK = timedelta(days=7)
# Moto measures an item as JSON, so it refuses items that DynamoDB takes.
EXACT_ENGINES = ["memory", pytest.param("local", marks=pytest.mark.local)]


async def test_a_claim_resets_the_last_attempt(stores: Stores, clock: ManualClock) -> None:
    """A claim removes what the last attempt left, and sets worker, Version, start and TTL."""
    claim = await claimed(stores)
    await stores.requests.retry(claim, timedelta(0), error="broke", code="BROKE")
    clock.advance(60)
    again = await reclaimed(stores, worker_id="w2")
    request = await stores.requests.get("r1")
    assert request == again.request
    assert (request.status, request.worker_id) == (RequestStatus.PROCESSING, "w2")
    assert request.version == again.version != claim.version
    assert request.processing_started == clock.now()
    assert (request.error, request.error_code, request.retry_after) == (None, None, None)
    assert request.processing_ended is None
    assert request.ttl == epoch(clock.now(), WEEK)


async def test_a_stale_candidate_claims_nothing(stores: Stores) -> None:
    """The claim of a request that has changed is refused, and the error says its status.

    Proves CLAIM-1.
    """
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1"))
    seen = await candidate(stores, "r1")
    claim = await stores.requests.claim(seen)
    with pytest.raises(RequestNotPending, match="PROCESSING"):
        await stores.requests.claim(seen)
    await stores.requests.release(claim)
    with pytest.raises(ConcurrentModification):
        await stores.requests.claim(seen)
    await stores.requests.delete("r1")
    with pytest.raises(NotFound):
        await stores.requests.claim(seen)


async def test_a_retrying_request_waits_for_retry_after(stores: Stores, clock: ManualClock) -> None:
    """It cannot be claimed before RetryAfter, and can be claimed from then on."""
    claim = await claimed(stores)
    await stores.requests.retry(claim, timedelta(seconds=10))
    with pytest.raises(RequestNotPending, match="due"):
        await reclaimed(stores)
    assert await stores.requests.dequeue(1) == []
    clock.advance(10)
    (again,) = await stores.requests.dequeue(1)
    assert again.request.retry_count == 1


async def test_dequeue_takes_high_requests_first(stores: Stores, clock: ManualClock) -> None:
    """Those that are due, and low ones last."""
    for name, priority in (("low", Priority.LOW), ("normal", None), ("high", Priority.HIGH)):
        await stores.requests.enqueue(
            AsyncRequest(action="echo", request_id=name, priority=priority)
        )
    later = AsyncRequest(action="echo", request_id="later", priority=Priority.HIGH)
    await stores.requests.enqueue(later, delay=timedelta(hours=1))
    clock.advance(1)
    claims = [await stores.requests.dequeue(1) for _ in range(4)]
    assert [claim.request_id for group in claims for claim in group] == ["high", "normal", "low"]


async def test_dequeue_takes_the_oldest_pending_first(stores: Stores, clock: ManualClock) -> None:
    """`dequeue` claims PENDING before RETRYING, oldest first, without a worker."""
    await stores.requests.retry(await claimed(stores, "old"), timedelta(0))
    for request_id in ("a", "b"):
        clock.advance(1)
        await stores.requests.enqueue(AsyncRequest(action="echo", request_id=request_id))
    two = await stores.requests.dequeue(2)
    assert [claim.request_id for claim in two] == ["a", "b"]
    assert [claim.request.worker_id for claim in two] == [None, None]
    assert [claim.request_id for claim in await stores.requests.dequeue(5)] == ["old"]


async def test_only_a_retry_that_counts_adds_to_retry_count(stores: Stores) -> None:
    """A retry stores error and code, removes the worker, and adds 1 to RetryCount if it counts."""
    claim = await claimed(stores)
    await stores.requests.retry(claim, timedelta(0), error="broke", code="BROKE")
    request = await stores.requests.get("r1")
    assert (request.status, request.retry_count) == (RequestStatus.RETRYING, 1)
    assert (request.error, request.error_code, request.worker_id) == ("broke", "BROKE", None)
    again = await reclaimed(stores)
    await stores.requests.retry(again, timedelta(0), counts=False)
    assert (await stores.requests.get("r1")).retry_count == 1


async def test_the_ttl_of_a_retry_is_a_week_after_it_is_due(stores: Stores) -> None:
    """A request that is retried in a month is kept until a week after that."""
    claim = await claimed(stores)
    await stores.requests.retry(claim, timedelta(days=30))
    assert (await stores.requests.get("r1")).ttl == epoch(START + timedelta(days=30), WEEK)
    with pytest.raises(ValidationError, match="after"):
        await stores.requests.retry(claim, timedelta(seconds=-1))


async def test_a_release_costs_no_attempt(stores: Stores) -> None:
    """A release makes the request PENDING without a worker, and RetryCount is unchanged."""
    claim = await claimed(stores)
    await stores.requests.update_progress(claim, 0.5)
    await stores.requests.release(claim)
    request = await stores.requests.get("r1")
    assert (request.status, request.retry_count) == (RequestStatus.PENDING, 0)
    assert (request.worker_id, request.progress) == (None, 0.5)


async def test_a_failure_stores_its_reason(stores: Stores) -> None:
    """A failure stores error, code and end, and keeps the worker."""
    claim = await claimed(stores)
    await stores.requests.fail(claim, "broke", "BROKE")
    request = await stores.requests.get("r1")
    assert (request.status, request.error, request.error_code) == (
        RequestStatus.FAILED,
        "broke",
        "BROKE",
    )
    assert (request.processing_ended, request.worker_id) == (START, "w1")
    with pytest.raises(ValidationError, match="error"):
        await stores.requests.fail(claim, "", "BROKE")


async def test_a_lost_claim_writes_nothing(stores: Stores) -> None:
    """After the claim of another worker every write is refused, and the item is unchanged.

    Proves FENCE-1.
    """
    old = await claimed(stores)
    await stores.requests.release(old)
    await reclaimed(stores, worker_id="w2")
    before = await raw(stores)
    for write in (
        stores.requests.update_progress(old, 0.9),
        stores.requests.checkpoint(old, {"row": 9}),
        stores.requests.complete(old, {}),
        stores.requests.fail(old, "broke", "BROKE"),
        stores.requests.retry(old, timedelta(0)),
        stores.requests.release(old),
    ):
        with pytest.raises(ClaimLost) as caught:
            await write
        assert caught.value.status == "PROCESSING"
        assert not isinstance(caught.value, Cancelled)
    assert await raw(stores) == before


async def test_the_same_outcome_may_be_written_again(stores: Stores) -> None:
    """The same outcome written twice succeeds. A different second outcome is a lost claim.

    Proves VERSION-2.
    """
    claim = await claimed(stores)
    await stores.requests.complete(claim, {"ok": True})
    before = await raw(stores)
    await stores.requests.complete(claim, {"ok": True})
    with pytest.raises(ClaimLost, match="COMPLETED"):
        await stores.requests.fail(claim, "broke", "BROKE")
    assert await raw(stores) == before


async def test_a_deleted_request_is_a_lost_claim(stores: Stores) -> None:
    """No write creates a deleted request again."""
    claim = await claimed(stores)
    await stores.requests.delete("r1")
    with pytest.raises(ClaimLost, match="no longer exists"):
        await stores.requests.complete(claim, {})
    assert await stores.requests.get_many(["r1"]) == {}


@pytest.mark.parametrize("stores", EXACT_ENGINES, indirect=True)
async def test_a_result_that_is_too_large_is_refused(stores: Stores) -> None:
    """`complete` raises ItemTooLarge. The request can still be failed, with a short text."""
    claim = await claimed(stores, payload={"text": "x" * 390_000})
    await stores.requests.update_progress(claim, 0.1, "m" * 500, {"d": "x" * 10_000})
    with pytest.raises(ItemTooLarge):
        await stores.requests.complete(claim, {"text": "x" * 30_000})
    await stores.requests.fail(claim, "e" * 20_000, "BROKE")
    request = await stores.requests.get("r1")
    assert (request.status, request.error_code) == (RequestStatus.FAILED, "ITEM_TOO_LARGE")
    assert request.error == "e" * 256
    assert (request.progress_message, request.progress_details) == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("Payload", {"S": "text"}, "Payload"),
        ("RetryCount", {"S": "many"}, "RetryCount"),
        ("CreatedAt", {"S": "yesterday"}, "CreatedAt"),
        ("Version", {"N": "5"}, "Version"),
        ("Action", {"S": ""}, "Action is missing"),
        ("RetryAfter", {"S": "soon"}, "RetryAfter"),
    ],
)
async def test_a_claim_fails_an_undecodable_request(
    stores: Stores, name: str, value: dict[str, str], reason: str
) -> None:
    """The claim fails it with INVALID_REQUEST and an error that names the attribute."""
    item: Item = {
        "RequestID": {"S": "r1"},
        "Status": {"S": "PENDING"},
        "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
    }
    await put_raw(stores, {**item, name: value})
    with pytest.raises(Undecodable, match=reason):
        await reclaimed(stores)
    failed = await raw(stores)
    assert failed["Status"] == {"S": "FAILED"}
    assert failed["ErrorCode"] == {"S": "INVALID_REQUEST"}
    assert reason in failed["Error"]["S"]


async def test_a_claim_is_recognised_by_its_version(stores: Stores) -> None:
    """The same Version claims again with success. Another Version is refused. Proves VERSION-2."""
    request = await stores.requests.enqueue(AsyncRequest(action="echo"))
    (candidate,) = (await stores.requests.entries(RequestStatus.PENDING, limit=1)).candidates
    first = await stores.requests.claim(candidate, worker_id="w1", version="v1")
    again = await stores.requests.claim(candidate, worker_id="w1", version="v1")
    assert first.version == again.version == "v1"
    assert again.request_id == request.request_id
    with pytest.raises(RequestNotPending):
        await stores.requests.claim(candidate, worker_id="w1", version="v2")
