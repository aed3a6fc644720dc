"""Requests that run later: when they are stored, claimed, rescheduled and expire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from contract.request_steps import candidate, claimed, raw, reclaimed
from contract.test_lanes import ids, lane_of
from streamer_store import (
    AsyncRequest,
    ConcurrentModification,
    Lane,
    NotFound,
    Priority,
    RequestNotPending,
    RequestStatus,
    SomeRefused,
    Stores,
    ValidationError,
)
from streamer_store.times import epoch, format_time
from support import ManualClock

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


def request(request_id: str = "r1", **fields: Any) -> AsyncRequest:
    return AsyncRequest(action="echo", request_id=request_id, **fields)


async def test_a_request_waits_until_its_time(stores: Stores, clock: ManualClock) -> None:
    """It is SCHEDULED until then, and cannot be claimed a moment earlier."""
    stored = await stores.requests.enqueue(request(), delay=HOUR)
    assert (stored.status, stored.retry_after) == (
        RequestStatus.SCHEDULED,
        clock.now() + HOUR,
    )
    assert stored == await stores.requests.get("r1")
    clock.advance(3599.9)
    assert await stores.requests.dequeue(10) == []
    with pytest.raises(RequestNotPending):
        await stores.requests.claim(await candidate(stores, "r1"))
    assert await ids(stores, Lane.DUE, clock.now()) == []
    clock.advance(0.1)
    assert await ids(stores, Lane.DUE, clock.now()) == ["r1"]
    (claim,) = await stores.requests.dequeue(10)
    assert claim.request.retry_after is None
    assert lane_of(await raw(stores)) == (None, None)


async def test_every_way_to_enqueue_takes_a_time(stores: Stores, clock: ManualClock) -> None:
    """As a time, as a delay, and as the field of a request."""
    at = clock.now() + HOUR
    queue = stores.requests
    await queue.enqueue(request("at"), run_at=at)
    await queue.enqueue(request("field", retry_after=at))
    await queue.enqueue_many([request("many", retry_after=at)])
    await queue.enqueue_all([request("all", retry_after=at)])
    await queue.enqueue_with_subscriptions(request("subscribed"), {}, delay=HOUR)
    due = await ids(stores, Lane.DUE, at)
    assert sorted(due) == ["all", "at", "field", "many", "subscribed"]
    assert await ids(stores, Lane.DUE, at - timedelta(microseconds=1)) == []


async def test_a_time_in_the_past_means_at_once(stores: Stores, clock: ManualClock) -> None:
    """It is stored as a request without a time: PENDING, or due at low priority."""
    long_ago = clock.now() - timedelta(days=400)
    arguments: dict[str, dict[str, Any]] = {
        "at": {"run_at": long_ago},
        "now": {"delay": timedelta(0)},
    }
    for name, fields in arguments.items():
        stored = await stores.requests.enqueue(request(name), **fields)
        assert (stored.status, stored.retry_after) == (RequestStatus.PENDING, None)
    stored = await stores.requests.enqueue(request("field", retry_after=long_ago))
    assert (stored.status, stored.retry_after) == (RequestStatus.PENDING, None)
    low = await stores.requests.enqueue(request("low", priority=Priority.LOW), run_at=long_ago)
    assert (low.status, low.retry_after) == (RequestStatus.SCHEDULED, low.created_at)
    assert len(await stores.requests.dequeue(10)) == 4


@pytest.mark.parametrize(
    ("priority", "lane"), [(Priority.HIGH, Lane.HIGH), (None, Lane.DUE), (Priority.LOW, Lane.LOW)]
)
async def test_a_priority_keeps_its_lane(
    stores: Stores, clock: ManualClock, priority: Priority | None, lane: Lane
) -> None:
    """The lane sorts by the time at which the request may run."""
    await stores.requests.enqueue(request(priority=priority), delay=HOUR)
    assert lane_of(await raw(stores)) == (lane.value, format_time(clock.now() + HOUR))


async def test_ttl_never_takes_a_request_that_waits(stores: Stores, clock: ManualClock) -> None:
    """It is a week after the time at the earliest, whatever the producer says."""
    at = clock.now() + timedelta(days=300)
    stored = await stores.requests.enqueue(request("default"), run_at=at)
    assert stored.ttl == epoch(at, WEEK)
    stored = await stores.requests.enqueue(request("early", ttl=epoch(clock.now())), run_at=at)
    assert stored.ttl == epoch(at, WEEK)
    late = epoch(at, 2 * WEEK)
    assert (await stores.requests.enqueue(request("late", ttl=late), run_at=at)).ttl == late
    moved = await stores.requests.reschedule("early", run_at=at + 10 * HOUR)
    assert moved.ttl == epoch(at + 10 * HOUR, WEEK)


async def test_a_time_has_any_time_zone(stores: Stores, clock: ManualClock) -> None:
    """It is stored in UTC."""
    at = (clock.now() + HOUR).astimezone(timezone(timedelta(hours=5, minutes=30)))
    stored = await stores.requests.enqueue(request(), run_at=at)
    assert stored.retry_after == at
    assert (await raw(stores))["RetryAfter"] == {"S": format_time(clock.now() + HOUR)}


_BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no time zone": ({"run_at": datetime(2027, 1, 1)}, "run_at: must be a datetime with a time"),  # noqa: DTZ001
    "a text": ({"run_at": "2027-01-01T00:00Z"}, "run_at: must be a datetime with a time zone"),
    "a negative delay": ({"delay": timedelta(seconds=-1)}, "delay: must be a timedelta of 0 or"),
    "a number": ({"delay": 60}, "delay: must be a timedelta of 0 or more, not 60"),
    "too long": ({"delay": timedelta.max}, "delay: ends after the year 9999"),
    "both": ({"delay": HOUR, "run_at": datetime(2027, 1, 1, tzinfo=UTC)}, "give one of them"),
    "after 366 days": ({"delay": timedelta(days=367)}, "run_at: is more than a year ahead"),
    "the end of time": (
        {"run_at": datetime.max.replace(tzinfo=UTC), "beyond_a_year": True},
        "run_at: must be before the year 9000",
    ),
}


@pytest.mark.parametrize("bad", _BAD)
async def test_a_wrong_time_is_refused(stores: Stores, bad: str) -> None:
    """In words, by each call that takes one, and nothing is stored or changed."""
    arguments, text = _BAD[bad]
    with pytest.raises(ValidationError, match=text):
        await stores.requests.enqueue(request(), **arguments)
    with pytest.raises(ValidationError, match=text):
        await stores.requests.enqueue_with_subscriptions(request(), {}, **arguments)
    with pytest.raises(NotFound):
        await stores.requests.get("r1")
    before = await stores.requests.enqueue(request("there"))
    with pytest.raises(ValidationError, match=text):
        await stores.requests.reschedule("there", **arguments)
    assert await stores.requests.get("there") == before


async def test_more_than_a_year_ahead_must_be_asked_for(stores: Stores, clock: ManualClock) -> None:
    """By each call."""
    at = clock.now() + timedelta(days=500)
    queue = stores.requests
    calls: list[Callable[..., Awaitable[Any]]] = [
        lambda **more: queue.enqueue(request("one", retry_after=at), **more),
        lambda **more: queue.enqueue_all([request("all", retry_after=at)], **more),
        lambda **more: queue.enqueue_with_subscriptions(request("sub"), {}, run_at=at, **more),
    ]
    for call in calls:
        with pytest.raises(ValidationError, match="more than a year ahead"):
            await call()
        await call(beyond_a_year=True)
    with pytest.raises(SomeRefused, match="more than a year ahead"):
        await queue.enqueue_many([request("many", retry_after=at)])
    await queue.enqueue_many([request("many", retry_after=at)], beyond_a_year=True)
    assert sorted(await ids(stores, Lane.DUE, at)) == ["all", "many", "one", "sub"]


async def test_two_times_are_refused(stores: Stores, clock: ManualClock) -> None:
    """In the request, and as an argument."""
    with pytest.raises(ValidationError, match="retry_after: is set already"):
        await stores.requests.enqueue(request(retry_after=clock.now()), delay=HOUR)


async def test_a_waiting_request_is_rescheduled(stores: Stores, clock: ManualClock) -> None:
    """PENDING becomes SCHEDULED. SCHEDULED and RETRYING keep their status, and all else."""
    await stores.requests.enqueue(request("pending", payload={"n": 1}))
    await stores.requests.enqueue(request("scheduled"), delay=HOUR)
    await stores.requests.retry(await claimed(stores, "retrying"), HOUR, error="no", code="NO")
    at = clock.now() + timedelta(minutes=5)
    for name, status in {
        "pending": RequestStatus.SCHEDULED,
        "scheduled": RequestStatus.SCHEDULED,
        "retrying": RequestStatus.RETRYING,
    }.items():
        before = await stores.requests.get(name)
        moved = await stores.requests.reschedule(name, delay=timedelta(minutes=5))
        assert (moved.status, moved.retry_after) == (status, at)
        assert moved == await stores.requests.get(name)
        assert moved.version != before.version
        assert (moved.payload, moved.error, moved.retry_count) == (
            before.payload,
            before.error,
            before.retry_count,
        )
    assert sorted(await ids(stores, Lane.DUE, at)) == ["pending", "retrying", "scheduled"]
    clock.advance(300)
    assert len(await stores.requests.dequeue(10)) == 3


async def test_a_request_is_rescheduled_to_run_at_once(stores: Stores, clock: ManualClock) -> None:
    """By a time that has passed."""
    await stores.requests.enqueue(request(), delay=HOUR)
    moved = await stores.requests.reschedule("r1", run_at=clock.now() - HOUR)
    assert (moved.status, moved.retry_after) == (RequestStatus.SCHEDULED, clock.now())
    assert len(await stores.requests.dequeue(10)) == 1


async def test_only_a_waiting_request_is_rescheduled(stores: Stores) -> None:
    """Others are refused with their status, and keep it."""
    with pytest.raises(NotFound):
        await stores.requests.reschedule("r1", delay=HOUR)
    claim = await claimed(stores)
    with pytest.raises(RequestNotPending, match="PROCESSING"):
        await stores.requests.reschedule("r1", delay=HOUR)
    await stores.requests.complete(claim)
    with pytest.raises(RequestNotPending, match="COMPLETED"):
        await stores.requests.reschedule("r1", delay=HOUR)
    with pytest.raises(ValidationError, match="give `run_at` or `delay`"):
        await stores.requests.reschedule("r1")


async def test_a_claim_of_an_entry_seen_before_is_lost(stores: Stores, clock: ManualClock) -> None:
    """A worker that has read the entry does not start a request that was put off since."""
    await stores.requests.enqueue(request())
    seen = await candidate(stores, "r1")
    await stores.requests.reschedule("r1", delay=HOUR)
    with pytest.raises(ConcurrentModification):
        await stores.requests.claim(seen)
    clock.advance(3600)
    assert (await reclaimed(stores)).request_id == "r1"


async def test_a_scheduled_request_is_cancelled_and_redriven(
    stores: Stores, clock: ManualClock
) -> None:
    """It has no lane then. A redriven one runs at once."""
    await stores.requests.enqueue(request(), delay=HOUR)
    cancelled = await stores.requests.cancel("r1")
    assert (cancelled.status, cancelled.retry_after) == (RequestStatus.CANCELLED, None)
    assert lane_of(await raw(stores)) == (None, None)
    assert await ids(stores, Lane.DUE, clock.now() + WEEK) == []
    redriven = await stores.requests.redrive("r1")
    assert (redriven.status, redriven.retry_after) == (RequestStatus.PENDING, None)
