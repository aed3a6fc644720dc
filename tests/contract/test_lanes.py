"""DueIndex: what stands in it, how it is read and counted, and how lanes are corrected."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.request_steps import candidate, claimed, put_raw, raw, reclaimed
from streamer_store import (
    AsyncRequest,
    Candidate,
    ConcurrentModification,
    Lane,
    Priority,
    RequestNotPending,
    RequestStatus,
    Stores,
    Undecodable,
)
from streamer_store.lanes import LANE_ATTRIBUTES
from streamer_store.times import format_time

if TYPE_CHECKING:
    from datetime import datetime

    from support import ManualClock

pytestmark = pytest.mark.anyio


async def entries(stores: Stores, lane: Lane, until: datetime, limit: int = 100) -> list[Candidate]:
    page = await stores.requests.due_entries(lane, until=until, limit=limit)
    assert page is not None
    return list(page.candidates)


async def ids(stores: Stores, lane: Lane, until: datetime) -> list[str]:
    return [entry.request_id for entry in await entries(stores, lane, until)]


def lane_of(item: Any) -> tuple[Any, ...]:
    return tuple(item.get(name, {}).get("S") for name in LANE_ATTRIBUTES)


async def retrying(stores: Stores, request_id: str, after: float, **fields: Any) -> None:
    claim = await claimed(stores, request_id, **fields)
    await stores.requests.retry(claim, timedelta(seconds=after))


async def written_by_others(
    stores: Stores, request_id: str, status: str, at: datetime, **more: Any
) -> None:
    """Write a request as an older release leaves it: it does not know lanes."""
    item: dict[str, Any] = {
        "RequestID": {"S": request_id},
        "Status": {"S": status},
        "CreatedAt": {"S": format_time(at)},
        "RetryAfter": {"S": format_time(at)},
        "Action": {"S": "echo"},
        "Version": {"S": f"version of {request_id}"},
    }
    await put_raw(stores, item | more)


async def test_a_normal_pending_request_has_no_lane(stores: Stores, clock: ManualClock) -> None:
    """So it costs nothing in DueIndex."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1"))
    assert lane_of(await raw(stores)) == (None, None)
    await stores.requests.release(await reclaimed(stores))
    assert lane_of(await raw(stores)) == (None, None)
    assert await ids(stores, Lane.DUE, clock.now() + timedelta(days=1)) == []


async def test_retries_are_read_in_the_order_of_their_time(
    stores: Stores, clock: ManualClock
) -> None:
    """Up to the given time, whatever their age and that of their RetryAfter."""
    now = clock.now()
    for request_id, after in (("r1", 30), ("r2", 10), ("r3", 20)):
        await retrying(stores, request_id, after)
    assert await ids(stores, Lane.DUE, now) == []
    assert await ids(stores, Lane.DUE, now + timedelta(seconds=20)) == ["r2", "r3"]
    (first, *_) = await entries(stores, Lane.DUE, now + timedelta(days=1))
    assert first.retry_after == now + timedelta(seconds=10)
    assert (first.status, first.action) == (RequestStatus.RETRYING, "echo")
    assert (first.priority, first.misplaced) == (None, False)
    clock.advance(10)
    await stores.requests.claim(first)
    assert await ids(stores, Lane.DUE, now + timedelta(days=1)) == ["r3", "r1"]


async def test_a_lane_is_read_page_by_page(stores: Stores, clock: ManualClock) -> None:
    for number in range(5):
        await retrying(stores, f"r{number}", number)
    until = clock.now() + timedelta(seconds=3)
    found: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await stores.requests.due_entries(Lane.DUE, until=until, limit=2, cursor=cursor)
        assert page is not None
        found += [entry.request_id for entry in page.candidates]
        cursor, pages = page.cursor, pages + 1
    assert found == ["r0", "r1", "r2", "r3"]
    page = await stores.requests.due_entries(Lane.DUE, until=until, limit=2, newest_first=True)
    assert page is not None
    assert [entry.request_id for entry in page.candidates] == ["r3", "r2"]


async def test_a_high_request_stands_in_its_lane_from_the_start(
    stores: Stores, clock: ManualClock
) -> None:
    """It is PENDING, so consumers that do not know priorities find it too."""
    made = AsyncRequest(action="echo", request_id="r1", priority=Priority.HIGH)
    stored = await stores.requests.enqueue(made)
    assert stored.status is RequestStatus.PENDING
    (entry,) = await entries(stores, Lane.HIGH, clock.now())
    assert (entry.priority, entry.misplaced) == (Priority.HIGH, False)
    claim = await stores.requests.claim(entry, worker_id="w1")
    assert claim.request.priority is Priority.HIGH
    assert await ids(stores, Lane.HIGH, clock.now()) == []
    await stores.requests.retry(claim, timedelta(seconds=5))
    assert await ids(stores, Lane.HIGH, clock.now()) == []
    assert await ids(stores, Lane.HIGH, clock.now() + timedelta(seconds=5)) == ["r1"]


async def test_a_low_request_is_never_pending(stores: Stores, clock: ManualClock) -> None:
    """It is enqueued, released and redriven as SCHEDULED, and is due at once."""
    made = AsyncRequest(action="echo", request_id="r1", priority=Priority.LOW)
    stored = await stores.requests.enqueue(made)
    assert (stored.status, stored.retry_after) == (RequestStatus.SCHEDULED, clock.now())
    created = clock.now()
    clock.advance(10)
    for back in ("release", "redrive"):
        claim = await reclaimed(stores)
        assert lane_of(await raw(stores)) == (None, None)
        if back == "release":
            await stores.requests.release(claim)
        else:
            await stores.requests.fail(claim, "no", "BAD")
            await stores.requests.redrive("r1")
        request = await stores.requests.get("r1")
        assert (request.status, request.retry_after) == (RequestStatus.SCHEDULED, created)
        assert await ids(stores, Lane.LOW, clock.now()) == ["r1"]
    (claim,) = await stores.requests.dequeue(1)
    assert claim.request.priority is Priority.LOW
    await stores.requests.complete(claim, {})


async def test_a_scheduled_request_waits_until_its_time(stores: Stores, clock: ManualClock) -> None:
    """It is claimed once it is due, can be cancelled and listed, and is counted."""
    at = clock.now() + timedelta(hours=1)
    lane = {"DueLane": {"S": "due"}, "DueAt": {"S": format_time(at)}}
    for request_id in ("r1", "r2"):
        await written_by_others(stores, request_id, "SCHEDULED", at, **lane)
    seen = await candidate(stores, "r1")
    with pytest.raises(RequestNotPending, match="not due"):
        await stores.requests.claim(seen)
    assert await stores.requests.dequeue(5) == []
    cancelled = await stores.requests.update_status("r2", RequestStatus.CANCELLED)
    assert lane_of(await raw(stores, "r2")) == (None, None)
    assert cancelled.status is RequestStatus.CANCELLED
    assert (await stores.requests.depth(RequestStatus.SCHEDULED, limit=5)).count == 1
    listed = stores.requests.get_by_status(RequestStatus.SCHEDULED)
    assert [request.request_id async for request in listed] == ["r1"]
    clock.advance(3600)
    (claim,) = await stores.requests.dequeue(5)
    assert (claim.request_id, claim.request.retry_after) == ("r1", None)
    assert lane_of(await raw(stores)) == (None, None)


@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "rescue", "undecodable"])
async def test_every_end_removes_a_lane_that_should_not_be_there(stores: Stores, end: str) -> None:
    """An older release claims a request and leaves its lane."""
    claim = await claimed(stores, max_retries=0)
    stale = {"DueLane": {"S": "due"}, "DueAt": {"S": "2026-01-01T00:00:00.000000Z"}}
    await put_raw(stores, {**await raw(stores), **stale})
    running = Candidate(
        request_id="r1", status=RequestStatus.PROCESSING, seen_version={"S": claim.version}
    )
    match end:
        case "complete":
            await stores.requests.complete(claim, {})
        case "fail":
            await stores.requests.fail(claim, "no", "BAD")
        case "cancel":
            await stores.requests.cancel("r1")
        case "rescue":
            await stores.requests.rescue(running, error="gone", code="WORKER_LOST")
        case _:
            await put_raw(stores, {**await raw(stores), "MaxRetries": {"S": "many"}})
            await stores.requests.rescue(running, error="gone", code="WORKER_LOST")
    assert lane_of(await raw(stores)) == (None, None)


async def test_a_lane_is_counted_by_status(stores: Stores, clock: ManualClock) -> None:
    """What may run, and what waits for later. PENDING ones are counted by `depth`."""
    requests, now = stores.requests, clock.now()
    await requests.enqueue(AsyncRequest(action="echo", request_id="p", priority=Priority.HIGH))
    for request_id, after in (("r1", 0), ("r2", 5), ("r3", 500)):
        await retrying(stores, request_id, after, priority=Priority.HIGH)
    clock.advance(5)
    due = await requests.lane_depths(Lane.HIGH, now=clock.now(), later=False, limit=10)
    assert due is not None
    assert due.keys() == {RequestStatus.RETRYING, RequestStatus.SCHEDULED}
    assert (due[RequestStatus.RETRYING].count, due[RequestStatus.SCHEDULED].count) == (2, 0)
    assert due[RequestStatus.RETRYING].oldest == now
    assert not due[RequestStatus.RETRYING].more
    later = await requests.lane_depths(Lane.HIGH, now=clock.now(), later=True, limit=10)
    assert later is not None
    assert later[RequestStatus.RETRYING].count == 1
    capped = await requests.lane_depths(Lane.HIGH, now=clock.now(), later=False, limit=2)
    assert capped is not None
    assert capped[RequestStatus.RETRYING].more


@pytest.mark.parametrize("status", ["RETRYING", "SCHEDULED"])
async def test_a_request_without_its_lane_is_corrected(
    stores: Stores, clock: ManualClock, status: str
) -> None:
    """Older releases leave such. Version stays, so its candidates and claims are still good."""
    await written_by_others(stores, "r1", status, clock.now(), Priority={"S": "low"})
    seen = await candidate(stores, "r1")
    assert await stores.requests.correct_lane("r1")
    assert await ids(stores, Lane.LOW, clock.now()) == ["r1"]
    assert not await stores.requests.correct_lane("r1")
    await stores.requests.claim(seen)
    assert not await stores.requests.correct_lane("r1")


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        ("PROCESSING", ("due", 0)),
        ("COMPLETED", ("low", -10)),
        ("CANCELLED", ("high", 10)),
        ("PENDING", ("due", 0)),
        ("RETRYING", ("due", -10)),
        ("RETRYING", ("high", 0)),
        ("SCHEDULED", ("due", 10)),
    ],
)
async def test_a_misplaced_entry_is_corrected(
    stores: Stores, clock: ManualClock, status: str, wrong: tuple[str, float]
) -> None:
    """Afterwards it stands where its status and time put it, or nowhere."""
    lane, late = wrong
    at = {"S": format_time(clock.now() + timedelta(seconds=late))}
    await written_by_others(stores, "r1", status, clock.now(), DueLane={"S": lane}, DueAt=at)
    until = clock.now() + timedelta(seconds=10)
    (entry,) = await entries(stores, Lane(lane), until)
    assert entry.misplaced
    before = await raw(stores)
    assert await stores.requests.correct_lane("r1")
    after = await raw(stores)
    assert {**before, **dict.fromkeys(LANE_ATTRIBUTES)} == {
        **after,
        **dict.fromkeys(LANE_ATTRIBUTES),
    }
    waits = status in {"RETRYING", "SCHEDULED"}
    assert lane_of(after) == (("due", format_time(clock.now())) if waits else (None, None))
    now_at = [entry for other in Lane for entry in await entries(stores, other, until)]
    assert [entry.misplaced for entry in now_at] == ([False] if waits else [])


async def test_a_request_by_go_is_corrected_while_it_has_no_version(
    stores: Stores, clock: ManualClock
) -> None:
    """Its retry has neither Version nor lane."""
    await written_by_others(stores, "r1", "RETRYING", clock.now())
    item = {name: value for name, value in (await raw(stores)).items() if name != "Version"}
    await put_raw(stores, item)
    assert await stores.requests.correct_lane("r1")
    (entry,) = await entries(stores, Lane.DUE, clock.now())
    assert (entry.seen_version, entry.misplaced) == (None, False)


async def test_no_correction_of_what_is_not_there_or_not_known(stores: Stores) -> None:
    """A later release may know the status, and where it belongs."""
    assert not await stores.requests.correct_lane("nothing")
    await put_raw(stores, {"RequestID": {"S": "r1"}, "Status": {"S": "PAUSED"}})
    with pytest.raises(Undecodable, match="not known"):
        await stores.requests.correct_lane("r1")


async def test_an_entry_of_an_unknown_status_is_reported_and_left_out(
    stores: Stores, clock: ManualClock, undecodable: list[Undecodable]
) -> None:
    """The others of the page are returned."""
    at = clock.now()
    lane = {"DueLane": {"S": "due"}, "DueAt": {"S": format_time(at)}}
    await written_by_others(stores, "odd", "PAUSED", at, **lane)
    await written_by_others(stores, "r1", "RETRYING", at, **lane)
    assert await ids(stores, Lane.DUE, at) == ["r1"]
    assert [error.key for error in undecodable] == ["odd"]
    depths = await stores.requests.lane_depths(Lane.DUE, now=at, later=False, limit=10)
    assert depths is not None
    assert depths[RequestStatus.RETRYING].count == 1


async def test_a_broken_request_is_due_at_once(stores: Stores, clock: ManualClock) -> None:
    """Once its lane is corrected it is found, and its claim fails it."""
    later = {"S": format_time(clock.now() + timedelta(days=1))}
    await written_by_others(
        stores, "r1", "RETRYING", clock.now(), RetryAfter={"S": "soon"}, DueAt=later
    )
    assert await stores.requests.correct_lane("r1")
    (entry,) = await entries(stores, Lane.DUE, clock.now())
    assert entry.broken is not None
    with pytest.raises(Undecodable):
        await stores.requests.claim(entry)
    assert lane_of(await raw(stores)) == (None, None)


async def test_the_entry_of_an_earlier_state_cannot_be_claimed(
    stores: Stores, clock: ManualClock
) -> None:
    """The index is a hint. The claim decides (CLAIM-1)."""
    await retrying(stores, "r1", 0)
    (entry,) = await entries(stores, Lane.DUE, clock.now())
    claim = await stores.requests.claim(entry)
    with pytest.raises(RequestNotPending):
        await stores.requests.claim(entry)
    await stores.requests.retry(claim, timedelta())
    with pytest.raises(ConcurrentModification):
        await stores.requests.claim(entry)
