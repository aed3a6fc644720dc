"""Requests with a unique key: what the second `enqueue` of a key answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contract.request_steps import candidate, put_raw, raw, reclaimed
from contract.test_lanes import lane_of
from streamer_store import (
    AsyncRequest,
    ConcurrentModification,
    Enqueued,
    EventType,
    Priority,
    RequestNotPending,
    RequestStatus,
    SomeRefused,
    Stores,
    Subscription,
    Undecodable,
    ValidationError,
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


async def test_enqueue_many_takes_keys(stores: Stores) -> None:
    """The same key twice, and one that is there already: each result has the request."""
    await enqueue(stores)
    requests = [request(unique_key=key, payload={"n": 2}) for key in (KEY, "a", "a", "b")]
    summary = await stores.requests.enqueue_many(requests)
    assert summary.done == 4
    enqueued = [record.enqueued for record in summary.records]
    assert enqueued[0] is Enqueued.EXISTS
    assert sorted(str(one) for one in enqueued[1:3]) == ["created", "exists"]
    assert summary.records[1] == summary.records[2]
    replaced = await stores.requests.enqueue_many(requests[:1], on_conflict="replace_waiting")
    assert replaced.records[0].enqueued is Enqueued.REPLACED
    assert (await stores.requests.get(ID)).payload == {"n": 2}


_BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"unique_key": ""}, "unique_key: must not be empty"),
    "number": ({"unique_key": 7}, "unique_key: must be text, not int"),
    "long": ({"unique_key": "é" * 1024}, "unique_key: has 2048 bytes, the limit is 1024"),
    "control": ({"unique_key": "a\nb"}, r"has the control character '\\n' at position 1"),
    "surrogate": ({"unique_key": "a\ud800"}, "unique_key: has half a surrogate pair"),
    "zero": ({"unique_key": "a", "unique_for": timedelta()}, "unique_for: must be a timedelta ab"),
    "negative": ({"unique_key": "a", "unique_for": -HOUR}, "unique_for: must be a timedelta above"),
    "month": ({"unique_key": "a", "unique_for": timedelta(days=31)}, "of 30 days at most, not"),
    "seconds": ({"unique_key": "a", "unique_for": 60}, "unique_for: must be a timedelta, not 60"),
    "no key": ({"unique_for": HOUR}, "unique_for: needs a `unique_key`"),
    "conflict": ({"unique_key": "a", "on_conflict": "replace"}, "must be keep or replace_waiting"),
    "no conflict": ({"on_conflict": "replace_waiting"}, "on_conflict: needs a `unique_key`"),
}


@pytest.mark.parametrize("bad", _BAD)
async def test_a_wrong_key_is_refused_in_words(stores: Stores, bad: str) -> None:
    """With the name of the argument, and nothing is stored."""
    arguments, text = _BAD[bad]
    with pytest.raises(ValidationError, match=text):
        await stores.requests.enqueue(request(), **arguments)
    assert await stores.requests.dequeue(10) == []


async def test_a_key_does_not_go_with_another_id(stores: Stores) -> None:
    """Nor with the transactions, nor twice. Ids of keys cannot be chosen."""
    keyed = request(unique_key="a")
    with pytest.raises(ValidationError, match="request_id: cannot be combined with `unique_key`"):
        await stores.requests.enqueue(request(request_id="r1"), unique_key="a")
    with pytest.raises(ValidationError, match="unique_key: is set already"):
        await stores.requests.enqueue(keyed, unique_key="b")
    with pytest.raises(ValidationError, match="unique#, which is reserved"):
        await stores.requests.enqueue(request(request_id=ID))
    with pytest.raises(ValidationError, match="unique_key: cannot be used with enqueue_all"):
        await stores.requests.enqueue_all([keyed])
    with pytest.raises(ValidationError, match="use `enqueue`, and then `subscribe`"):
        await stores.requests.enqueue_with_subscriptions(keyed, {})
    with pytest.raises(SomeRefused, match="cannot be combined"):
        await stores.requests.enqueue_many([request(unique_key="a", request_id="r1")])
    with pytest.raises(ValidationError, match="on_conflict: must be"):
        await stores.requests.enqueue_many([keyed], on_conflict="no")  # type: ignore[arg-type]
    assert await stores.requests.dequeue(10) == []


_BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "status": ({"Status": {"S": "LATER"}}, "Status: 'LATER' is not known"),
    "window": (
        {"Status": {"S": "COMPLETED"}, "UniqueFor": {"S": "long"}, "ProcessingEnded": {"S": "x"}},
        "UniqueFor: expected a number of seconds, found str",
    ),
    "end": ({"Status": {"S": "COMPLETED"}, "UniqueFor": {"N": "60"}}, "ProcessingEnded is missing"),
    "tenant": ({"TenantID": {"S": "other"}}, "TenantID is not the one that gives this id"),
    "payload": ({"Payload": {"S": "text"}}, "Payload: expected a map"),
}


@pytest.mark.parametrize("broken", _BROKEN)
async def test_an_item_that_cannot_be_read_is_reported(stores: Stores, broken: str) -> None:
    """It is neither taken for free nor returned: the error names it."""
    attributes, text = _BROKEN[broken]
    await enqueue(stores)
    item = {**await raw(stores, ID), **attributes}
    await put_raw(stores, item)
    with pytest.raises(Undecodable, match=text) as raised:
        await enqueue(stores, n=2)
    assert (raised.value.key, raised.value.operation) == (ID, "enqueue")
    assert await raw(stores, ID) == item


@pytest.mark.parametrize("status", ["FAILED", "PENDING"])
async def test_a_broken_item_is_replaced_where_its_status_says_so(
    stores: Stores, clock: ManualClock, status: str
) -> None:
    """One that failed, as a claim fails what it cannot read, and one that waits, if asked for."""
    await enqueue(stores)
    item = {**await raw(stores, ID), "Payload": {"S": "text"}, "Status": {"S": status}}
    item.pop("Version")
    await put_raw(stores, {**item, "CreatedAt": {"S": "long ago"}})
    stored = await enqueue(stores, n=2, on_conflict="replace_waiting")
    assert (stored.payload, stored.created_at) == ({"n": 2}, clock.now())
    assert stored == await stores.requests.get(ID)


async def test_one_that_ttl_has_deleted_is_created_again(stores: Stores) -> None:
    """As if there had been none."""
    await enqueue(stores)
    await stores.requests.delete(ID)
    assert (await enqueue(stores, n=2)).enqueued is Enqueued.CREATED


async def test_of_many_with_one_key_the_last_replaces_those_before(stores: Stores) -> None:
    """25 are written at once, and those of one key in the order in which they were given."""
    requests = [
        AsyncRequest(
            action="index", unique_key="doc", payload={"revision": number, "text": "x" * number}
        )
        for number in range(40)
    ]
    summary = await stores.requests.enqueue_many(requests, on_conflict="replace_waiting")
    assert summary.done == 40
    (claim,) = await stores.requests.dequeue(10)
    assert claim.request.payload == {"revision": 39, "text": "x" * 39}
