"""Requests with a unique key: what the second `enqueue` of a key answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contract.request_steps import candidate, raw, reclaimed
from contract.test_lanes import lane_of
from streamer_store import (
    AsyncRequest,
    ConcurrentModification,
    Enqueued,
    EventType,
    Priority,
    RequestNotPending,
    RequestStatus,
    Stores,
    Subscription,
    WorkerLoss,
    unique_id,
)
from streamer_store.times import epoch, format_time
from support import ManualClock

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
KEY = "month-7"
ID = unique_id("report", KEY, tenant_id="acme")


def request(**fields: Any) -> AsyncRequest:
    return AsyncRequest(action="report", **{"tenant_id": "acme", **fields})


async def enqueue(stores: Stores, **arguments: Any) -> AsyncRequest:
    """Enqueue a request with the key, whose payload is in `n`."""
    payload = {"n": arguments.pop("n", 1)}
    return await stores.requests.enqueue(request(payload=payload), unique_key=KEY, **arguments)


async def complete(stores: Stores) -> None:
    await stores.requests.complete(await reclaimed(stores, ID), {"done": True})


async def test_a_second_one_returns_the_first(stores: Stores) -> None:
    """While it waits and while it runs. The answer says whether it was created."""
    first = await enqueue(stores)
    assert (first.request_id, first.unique_key, first.enqueued) == (ID, KEY, Enqueued.CREATED)
    assert first == await stores.requests.get(ID)
    second = await enqueue(stores, n=2)
    assert (second, second.enqueued) == (first, Enqueued.EXISTS)
    claim = await reclaimed(stores, ID)
    running = await enqueue(stores, n=2)
    assert (running.status, running.enqueued) == (RequestStatus.PROCESSING, Enqueued.EXISTS)
    assert (running.payload, running.worker_id) == ({"n": 1}, "w1")
    await stores.requests.complete(claim)


async def test_tenants_actions_and_keys_have_their_own(stores: Stores) -> None:
    """Also where the texts joined together are equal."""
    same = await enqueue(stores)
    others = [
        request(unique_key=KEY, tenant_id="other"),
        request(unique_key=KEY, tenant_id=None),
        request(unique_key="-7", tenant_id="acmemonth"),
        AsyncRequest(action="reports", tenant_id="acme", unique_key=KEY),
        AsyncRequest(action="reportm", tenant_id="acme", unique_key=KEY[1:]),
    ]
    stored = [await stores.requests.enqueue(other) for other in others]
    assert {one.enqueued for one in stored} == {Enqueued.CREATED}
    assert len({one.request_id for one in [same, *stored]}) == 6


async def test_the_key_is_free_when_it_has_ended(stores: Stores, clock: ManualClock) -> None:
    """Without a window: at once. Nothing of the earlier run remains, and CreatedAt is newer."""
    first = await enqueue(stores)
    await complete(stores)
    clock.advance(1)
    second = await enqueue(stores, n=2)
    assert second.enqueued is Enqueued.CREATED
    assert second == await stores.requests.get(ID)
    assert (second.status, second.payload, second.result) == (
        RequestStatus.PENDING,
        {"n": 2},
        None,
    )
    assert (second.created_at, second.version != first.version) == (clock.now(), True)
    assert await enqueue(stores) == second


@pytest.mark.parametrize("ends", ["fail", "cancel"])
async def test_one_that_did_not_complete_frees_its_key(stores: Stores, ends: str) -> None:
    """At once, whatever its window: its work is not done."""
    await enqueue(stores, unique_for=HOUR)
    if ends == "fail":
        await stores.requests.fail(await reclaimed(stores, ID), "no", "NO")
    else:
        await stores.requests.cancel(ID)
    second = await enqueue(stores, n=2, unique_for=HOUR)
    assert (second.enqueued, second.status) == (Enqueued.CREATED, RequestStatus.PENDING)


async def test_the_window_counts_from_the_completed_end(stores: Stores, clock: ManualClock) -> None:
    """Until its last moment the answer is the request that has ended, with its result."""
    await enqueue(stores, unique_for=HOUR)
    clock.advance(5000)
    await complete(stores)
    clock.advance(3599.999999)
    kept = await enqueue(stores, n=2)
    assert (kept.enqueued, kept.status) == (Enqueued.EXISTS, RequestStatus.COMPLETED)
    assert (kept.result, kept.unique_for) == ({"done": True}, HOUR)
    clock.advance(0.000001)
    again = await enqueue(stores, n=2)
    assert (again.enqueued, again.unique_for) == (Enqueued.CREATED, None)


async def test_ttl_lasts_as_long_as_the_window(stores: Stores, clock: ManualClock) -> None:
    """Of a COMPLETED request, and no longer than usual without a window."""
    await enqueue(stores, unique_for=timedelta(days=30))
    await complete(stores)
    ttl = (await stores.requests.get(ID)).ttl or 0
    assert clock.now() + timedelta(days=30) <= clock.now() + timedelta(
        seconds=ttl - epoch(clock.now())
    )
    clock.advance(30 * 86_400 + 1)
    await enqueue(stores, n=2)
    await complete(stores)
    assert (await stores.requests.get(ID)).ttl == epoch(clock.now(), WEEK)


async def test_a_window_survives_retries_rescues_and_redrives(
    stores: Stores, clock: ManualClock
) -> None:
    """They are that request again: its key is taken meanwhile, also after its worker was lost."""
    await enqueue(stores, unique_for=HOUR)
    await stores.requests.retry(await reclaimed(stores, ID), HOUR, error="no", code="NO")
    assert (await enqueue(stores)).status is RequestStatus.RETRYING
    clock.advance(3600)
    await reclaimed(stores, ID)
    running = await stores.requests.entries(RequestStatus.PROCESSING, limit=10)
    (seen,) = running.candidates
    await stores.requests.rescue(seen, error="gone", code="WORKER_LOST", loss=WorkerLoss())
    rescued = await enqueue(stores, n=2)
    assert (rescued.enqueued, rescued.rescues) == (Enqueued.EXISTS, 1)
    clock.advance(3600)
    await stores.requests.fail(await reclaimed(stores, ID), "no", "NO")
    redriven = await stores.requests.redrive(ID)
    assert (await enqueue(stores, n=2)) == redriven
    await complete(stores)
    assert (await enqueue(stores, n=2)).result == {"done": True}


async def test_a_redrive_of_one_that_was_enqueued_again_is_refused(stores: Stores) -> None:
    """The new run is not touched."""
    await enqueue(stores)
    await stores.requests.cancel(ID)
    again = await enqueue(stores, n=2)
    with pytest.raises(RequestNotPending):
        await stores.requests.redrive(ID)
    assert await stores.requests.get(ID) == again


async def test_subscriptions_of_the_run_before_are_deleted(
    stores: Stores, clock: ManualClock
) -> None:
    """More than a transaction takes, too. Those of other requests, and of the run that is the
    answer, remain.
    """
    await enqueue(stores)
    await stores.subscriptions.save_many(
        [_subscription(f"c{number}", clock) for number in range(120)]
    )
    await stores.subscriptions.subscribe("c1", "other", [EventType.COMPLETE])
    await enqueue(stores)
    await complete(stores)
    assert len(await stores.subscriptions.get_by_request(ID)) == 120
    await enqueue(stores, n=2)
    assert await stores.subscriptions.get_by_request(ID) == []
    assert len(await stores.subscriptions.get_by_connection("c1")) == 1


def _subscription(connection_id: str, clock: ManualClock) -> Subscription:
    return Subscription(connection_id=connection_id, request_id=ID, created_at=clock.now())


async def test_the_newest_replaces_one_that_waits(stores: Stores, clock: ManualClock) -> None:
    """Its payload, time and priority win. CreatedAt stays. A claim of the old one is lost."""
    first = await enqueue(stores, delay=timedelta(seconds=60))
    clock.advance(30)
    seen = await candidate(stores, ID)
    second = await enqueue(stores, n=2, delay=timedelta(seconds=60), on_conflict="replace_waiting")
    assert second.enqueued is Enqueued.REPLACED
    assert second == await stores.requests.get(ID)
    assert (second.payload, second.created_at) == ({"n": 2}, first.created_at)
    assert second.retry_after == clock.now() + timedelta(seconds=60)
    assert lane_of(await raw(stores, ID)) == ("due", format_time(second.retry_after))
    clock.advance(31)
    with pytest.raises(ConcurrentModification):
        await stores.requests.claim(seen)
    high = request(payload={"n": 3}, unique_key=KEY, priority=Priority.HIGH)
    at_once = await stores.requests.enqueue(high, on_conflict="replace_waiting")
    assert (at_once.status, at_once.retry_after) == (RequestStatus.PENDING, None)
    assert lane_of(await raw(stores, ID))[0] == "high"
    (claim,) = await stores.requests.dequeue(10)
    assert claim.request.payload == {"n": 3}


async def test_a_replaced_request_starts_from_nothing(stores: Stores, clock: ManualClock) -> None:
    """Without the checkpoint, the retries and the rescues of the one that was RETRYING."""
    await enqueue(stores, n=1)
    claim = await reclaimed(stores, ID)
    await stores.requests.checkpoint(claim, [1, 2, 3])
    await stores.requests.retry(claim, HOUR, error="no", code="NO")
    clock.advance(1)
    replaced = await enqueue(stores, n=2, on_conflict="replace_waiting")
    assert (replaced.status, replaced.retry_count) == (RequestStatus.PENDING, 0)
    assert (replaced.checkpoint, replaced.attempts, replaced.error) == (None, (), None)
    assert replaced == await stores.requests.get(ID)


async def test_one_that_runs_is_not_replaced(stores: Stores) -> None:
    """It is the answer, and its work goes on."""
    await enqueue(stores)
    claim = await reclaimed(stores, ID)
    kept = await enqueue(stores, n=2, on_conflict="replace_waiting")
    assert (kept.enqueued, kept.payload) == (Enqueued.EXISTS, {"n": 1})
    await stores.requests.update_progress(claim, 0.5)


async def test_replacing_does_not_put_off_for_ever(stores: Stores, clock: ManualClock) -> None:
    """A request runs at the latest ten delays after its creation."""
    delay = timedelta(seconds=5)
    first = await enqueue(stores, delay=delay)
    assert first.created_at is not None
    for number in range(12):
        clock.advance(4.5)
        latest = await enqueue(stores, n=number, delay=delay, on_conflict="replace_waiting")
    assert (latest.status, latest.retry_after) == (RequestStatus.PENDING, None)
    assert (latest.created_at, latest.payload) == (first.created_at, {"n": 11})


async def test_a_replacement_with_a_time_runs_at_that_time(
    stores: Stores, clock: ManualClock
) -> None:
    """Never before it, however long the request has waited."""
    run_at = clock.now() + timedelta(days=30)
    await enqueue(stores, run_at=run_at)
    clock.advance(29 * 86_400)
    replaced = await enqueue(stores, n=2, run_at=run_at, on_conflict="replace_waiting")
    assert (replaced.enqueued, replaced.retry_after) == (Enqueued.REPLACED, run_at)
    again = request(unique_key=KEY, retry_after=run_at)
    await stores.requests.enqueue_many([again], on_conflict="replace_waiting")
    assert (await stores.requests.get(ID)).retry_after == run_at


async def test_the_time_of_a_replacement_has_a_limit(stores: Stores, clock: ManualClock) -> None:
    """Also where the limit is a time that DynamoDB could not store."""
    first = await enqueue(stores, delay=timedelta(days=300))
    clock.advance(48)
    soon = timedelta(seconds=5)
    limited = await enqueue(stores, delay=soon, on_conflict="replace_waiting")
    assert first.created_at is not None
    assert limited.retry_after == first.created_at + 10 * soon
    far = await enqueue(
        stores, delay=timedelta(days=1_000_000), beyond_a_year=True, on_conflict="replace_waiting"
    )
    assert far.retry_after == clock.now() + timedelta(days=1_000_000)
