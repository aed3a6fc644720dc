"""Lists of requests, over the indexes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from going import candidate, claimed, put_raw

from streamer_store import AsyncRequest, RequestStatus, Stores, Undecodable, ValidationError
from streamer_store.schema import REQUESTS
from streamer_store.times import parse_time

if TYPE_CHECKING:
    from support import ManualClock

pytestmark = pytest.mark.anyio


async def _enqueue(stores: Stores, clock: ManualClock, *request_ids: str) -> None:
    for request_id in request_ids:
        clock.advance(1)
        await stores.requests.enqueue(
            AsyncRequest(action="echo", request_id=request_id, connection_id="c1")
        )


async def test_by_connection_comes_newest_first(stores: Stores, clock: ManualClock) -> None:
    """Whole requests of that connection alone, as many as asked for."""
    await _enqueue(stores, clock, "a", "b", "c")
    await stores.requests.enqueue(AsyncRequest(action="echo", connection_id="c2"))
    found = [each async for each in stores.requests.get_by_connection("c1")]
    assert [each.request_id for each in found] == ["c", "b", "a"]
    assert found[0] == await stores.requests.get("c")
    two = [each.request_id async for each in stores.requests.get_by_connection("c1", limit=2)]
    assert two == ["c", "b"]
    assert [each async for each in stores.requests.get_by_connection("nobody")] == []


async def test_by_status_comes_oldest_first(stores: Stores, clock: ManualClock) -> None:
    """Whole requests of that status alone, as many as asked for."""
    await _enqueue(stores, clock, "a", "b", "c")
    claim = await claimed(stores, "d")
    pending = stores.requests.get_by_status(RequestStatus.PENDING)
    assert [each.request_id async for each in pending] == ["a", "b", "c"]
    one = stores.requests.get_by_status(RequestStatus.PENDING, limit=1)
    assert [each.request_id async for each in one] == ["a"]
    running = stores.requests.get_by_status(RequestStatus.PROCESSING)
    assert [each.version async for each in running] == [claim.version]


async def test_lists_go_past_a_page(stores: Stores) -> None:
    """More than a page of requests are all listed, once each."""
    stored = await stores.requests.enqueue_many(
        AsyncRequest(action="echo", connection_id="c1") for _ in range(230)
    )
    wanted = sorted(each.request_id for each in stored)
    by_status = stores.requests.get_by_status(RequestStatus.PENDING)
    assert sorted([each.request_id async for each in by_status]) == wanted
    by_connection = stores.requests.get_by_connection("c1", limit=150)
    found = {each.request_id async for each in by_connection}
    assert len(found) == 150
    assert found < set(wanted)


async def test_waiting_goes_on_at_its_cursor(stores: Stores, clock: ManualClock) -> None:
    """Page by page, oldest first, until there is no cursor."""
    await _enqueue(stores, clock, "a", "b", "c")
    first = await stores.requests.entries(RequestStatus.PENDING, limit=2)
    assert [each.request_id for each in first.candidates] == ["a", "b"]
    assert first.cursor is not None
    rest = await stores.requests.entries(RequestStatus.PENDING, limit=2, cursor=first.cursor)
    assert [each.request_id for each in rest.candidates] == ["c"]
    assert rest.cursor is None


async def test_a_candidate_says_what_the_index_carries(stores: Stores) -> None:
    """Action, tenant, CreatedAt and Version come with it."""
    stored = await stores.requests.enqueue(AsyncRequest(action="echo", tenant_id="t1"))
    (found,) = (await stores.requests.entries(RequestStatus.PENDING, limit=1)).candidates
    assert (found.action, found.tenant_id, found.created_at, found.seen_version) == (
        "echo",
        "t1",
        stored.created_at,
        {"S": stored.version},
    )


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "5"])
async def test_a_limit_is_a_whole_number_from_one_on(stores: Stores, limit: Any) -> None:
    """No list, page, count or dequeue takes another."""
    with pytest.raises(ValidationError, match="limit"):
        await stores.requests.entries(RequestStatus.PENDING, limit=limit)
    with pytest.raises(ValidationError, match="limit"):
        await stores.requests.depth(RequestStatus.PENDING, limit=limit)
    with pytest.raises(ValidationError, match="limit"):
        await stores.requests.dequeue(limit)
    with pytest.raises(ValidationError, match="limit"):
        await anext(aiter(stores.requests.get_by_status(RequestStatus.PENDING, limit=limit)))
    with pytest.raises(ValidationError, match="limit"):
        await anext(aiter(stores.requests.get_by_connection("c1", limit=limit)))


@pytest.mark.parametrize("status", ["BOGUS", "pending", "", None, 5])
async def test_a_status_that_is_none_is_refused(stores: Stores, status: Any) -> None:
    """As a ValidationError that names the field, by every list and move."""
    with pytest.raises(ValidationError, match=r"status: .* is not a request status"):
        await stores.requests.entries(status, limit=1)
    with pytest.raises(ValidationError, match="status"):
        await stores.requests.depth(status, limit=1)
    with pytest.raises(ValidationError, match="status"):
        await anext(aiter(stores.requests.get_by_status(status)))
    with pytest.raises(ValidationError, match="status"):
        await stores.requests.update_status("r1", status)


async def test_a_time_without_a_zone_is_refused(stores: Stores) -> None:
    """Nobody knows which moment it is."""
    with pytest.raises(ValidationError, match="since"):
        await stores.requests.entries(
            RequestStatus.PENDING,
            limit=1,
            since=datetime(2026, 1, 1),  # noqa: DTZ001
        )


async def test_lists_tell_of_what_does_not_read(
    stores: Stores, clock: ManualClock, undecodable: list[Undecodable]
) -> None:
    """A broken item is reported by its key; the others still come."""
    await _enqueue(stores, clock, "a")
    await put_raw(
        stores,
        {
            "RequestID": {"S": "broken"},
            "Status": {"S": "PENDING"},
            "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
            "ConnectionID": {"S": "c1"},
            "Action": {"S": "echo"},
            "RetryCount": {"S": "many"},
        },
    )
    found = [each.request_id async for each in stores.requests.get_by_connection("c1")]
    assert found == ["a"]
    assert [(each.key, each.reason) for each in undecodable] == [
        ("broken", "RetryCount: expected a number, found str")
    ]


async def test_entries_come_from_a_time_on_and_newest_first(
    stores: Stores, clock: ManualClock
) -> None:
    """To the microsecond, though the index is asked by the second."""
    await _enqueue(stores, clock, "a")
    clock.advance(0.5)
    middle = clock.now()
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="b"))
    await _enqueue(stores, clock, "c")
    entries = stores.requests.entries
    page = await entries(RequestStatus.PENDING, limit=10, since=middle)
    assert [each.request_id for each in page.candidates] == ["b", "c"]
    page = await entries(RequestStatus.PENDING, limit=2, newest_first=True)
    assert [each.request_id for each in page.candidates] == ["c", "b"]
    page = await entries(RequestStatus.PENDING, limit=2, newest_first=True, cursor=page.cursor)
    assert [each.request_id for each in page.candidates] == ["a"]


async def test_times_with_fewer_digits_are_found_too(stores: Stores, clock: ManualClock) -> None:
    """Go's text for a whole second has no fraction, and sorts after those that have one."""
    whole = clock.now().replace(microsecond=0)
    text = whole.isoformat(timespec="seconds").removesuffix("+00:00") + "Z"
    await put_raw(
        stores,
        {
            "RequestID": {"S": "go"},
            "Action": {"S": "echo"},
            "Status": {"S": "PENDING"},
            "CreatedAt": {"S": text},
        },
    )
    page = await stores.requests.entries(RequestStatus.PENDING, limit=10, since=whole)
    assert [each.request_id for each in page.candidates] == ["go"]
    later = whole + timedelta(microseconds=1)
    page = await stores.requests.entries(RequestStatus.PENDING, limit=10, since=later)
    assert page.candidates == []


async def test_the_depth_of_a_status_is_counted(stores: Stores, clock: ManualClock) -> None:
    """Over pages, up to a limit; the oldest is told in any case."""
    empty = await stores.requests.depth(RequestStatus.PENDING, limit=10)
    assert (empty.count, empty.more, empty.oldest) == (0, False, None)
    await stores.requests.enqueue_many(AsyncRequest(action="echo") for _ in range(250))
    oldest = clock.now()
    await _enqueue(stores, clock, "late")
    whole = await stores.requests.depth(RequestStatus.PENDING, limit=1000)
    assert (whole.count, whole.more, whole.oldest) == (251, False, oldest)
    some = await stores.requests.depth(RequestStatus.PENDING, limit=249)
    assert (some.count, some.more, some.oldest) == (249, True, oldest)
    assert (await stores.requests.depth(RequestStatus.FAILED, limit=10)).count == 0


# Texts of moments in the order of the moments, which is not the order of the texts.
MOMENTS: Final = {
    "hour ago, west": "2066-03-14T06:00:00-05:00",
    "half an hour ago, UTC": "2066-03-14T11:30:00Z",
    "minute ago, far east": "2066-03-15T01:59:00.000000001+14:00",
    "now, far west": "2066-03-14T00:00:00-12:00",
    "now, UTC": "2066-03-14T12:00:00.000000Z",
}


async def _put_moments(stores: Stores, moments: dict[str, str]) -> None:
    for request_id, text in moments.items():
        await put_raw(
            stores,
            {
                "RequestID": {"S": request_id},
                "Action": {"S": "echo"},
                "Status": {"S": "PENDING"},
                "CreatedAt": {"S": text},
            },
        )


@pytest.mark.parametrize("newest_first", [False, True])
async def test_entries_from_a_time_on_include_other_offsets(
    stores: Stores, *, newest_first: bool
) -> None:
    """A moment is compared, not its text."""
    await _put_moments(stores, MOMENTS)
    names = list(MOMENTS)
    for number, name in enumerate(names):
        since = parse_time(MOMENTS[name])
        page = await stores.requests.entries(
            RequestStatus.PENDING, limit=100, since=since, newest_first=newest_first
        )
        expected = names[min(number, 3) :]  # the last two are one moment
        assert sorted(each.request_id for each in page.candidates) == sorted(expected)


@pytest.mark.parametrize(("year", "found"), [(1, len(MOMENTS)), (9999, 0)])
async def test_entries_from_the_ends_of_the_calendar_on(
    stores: Stores, year: int, found: int
) -> None:
    """The margin for offsets does not leave the calendar."""
    await _put_moments(stores, MOMENTS)
    since = datetime(year, 1, 1, tzinfo=UTC)
    page = await stores.requests.entries(RequestStatus.PENDING, limit=100, since=since)
    assert len(page.candidates) == found


async def test_the_oldest_is_told_by_its_moment(stores: Stores) -> None:
    """Whatever its text sorts before, however many came since, and though one does not read."""
    await _put_moments(stores, MOMENTS)
    later = {f"later {number:03}": f"2066-03-16T12:00:00.{number:06}Z" for number in range(250)}
    await _put_moments(stores, later | {"broken": "yesterday"})
    depth = await stores.requests.depth(RequestStatus.PENDING, limit=1000)
    assert depth.count == len(MOMENTS) + len(later) + 1
    assert depth.oldest == parse_time(MOMENTS["hour ago, west"])
    assert not depth.more


async def test_the_oldest_has_no_time_where_none_reads(stores: Stores) -> None:
    """What does not read, or is Go's zero time, is counted, and tells no age."""
    await _put_moments(stores, {"broken": "yesterday", "zero": "0001-01-01T00:00:00Z"})
    depth = await stores.requests.depth(RequestStatus.PENDING, limit=10)
    assert (depth.count, depth.oldest) == (2, None)


async def test_an_undecodable_request_is_named_with_its_place(stores: Stores) -> None:
    """Operation, table and key, by whichever call reads it."""
    table = stores.engine.table_name(REQUESTS)
    broken: dict[str, Any] = {
        "RequestID": {"S": "broken"},
        "Status": {"S": "FAILED"},
        "RetryCount": {"S": "many"},
        "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
    }
    await put_raw(stores, broken)
    with pytest.raises(Undecodable) as caught:
        await stores.requests.get("broken")
    assert (caught.value.operation, caught.value.table) == ("get", table)
    assert caught.value.key == "broken"
    assert f"operation=get, table={table}, key=broken" in str(caught.value)
    await put_raw(stores, broken | {"Status": {"S": "PENDING"}})
    with pytest.raises(Undecodable) as caught:
        await stores.requests.claim(await candidate(stores, "broken"))
    assert (caught.value.operation, caught.value.table) == ("claim", table)
    await put_raw(stores, broken | {"MaxRetries": {"S": "few"}, "Status": {"S": "RETRYING"}})
    with pytest.raises(Undecodable) as caught:
        await stores.requests.cancel("broken")
    assert (caught.value.operation, caught.value.table) == ("cancel", table)
