"""Lists of requests from the indexes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from contract.request_steps import candidate, claimed, put_raw
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


async def test_requests_of_a_connection_are_listed_newest_first(
    stores: Stores, clock: ManualClock
) -> None:
    """Only requests of that connection are listed, whole, up to the limit."""
    await _enqueue(stores, clock, "a", "b", "c")
    await stores.requests.enqueue(AsyncRequest(action="echo", connection_id="c2"))
    listed = [request async for request in stores.requests.get_by_connection("c1")]
    assert [request.request_id for request in listed] == ["c", "b", "a"]
    assert listed[0] == await stores.requests.get("c")
    two = [request.request_id async for request in stores.requests.get_by_connection("c1", limit=2)]
    assert two == ["c", "b"]
    assert [request async for request in stores.requests.get_by_connection("nobody")] == []


async def test_requests_of_a_status_are_listed_oldest_first(
    stores: Stores, clock: ManualClock
) -> None:
    """Only requests of that status are listed, whole, up to the limit."""
    await _enqueue(stores, clock, "a", "b", "c")
    claim = await claimed(stores, "d")
    pending = stores.requests.get_by_status(RequestStatus.PENDING)
    assert [request.request_id async for request in pending] == ["a", "b", "c"]
    one = stores.requests.get_by_status(RequestStatus.PENDING, limit=1)
    assert [request.request_id async for request in one] == ["a"]
    running = stores.requests.get_by_status(RequestStatus.PROCESSING)
    assert [request.version async for request in running] == [claim.version]


async def test_lists_read_all_pages(stores: Stores) -> None:
    """More than a page of requests are all listed, once each."""
    stored = (
        await stores.requests.enqueue_many(
            AsyncRequest(action="echo", connection_id="c1") for _ in range(230)
        )
    ).records
    wanted = sorted(request.request_id for request in stored)
    by_status = stores.requests.get_by_status(RequestStatus.PENDING)
    assert sorted([request.request_id async for request in by_status]) == wanted
    by_connection = stores.requests.get_by_connection("c1", limit=150)
    ids = {request.request_id async for request in by_connection}
    assert len(ids) == 150
    assert ids < set(wanted)


async def test_entries_continue_at_the_cursor(stores: Stores, clock: ManualClock) -> None:
    """Pages are oldest first, and the last page has no cursor."""
    await _enqueue(stores, clock, "a", "b", "c")
    first = await stores.requests.entries(RequestStatus.PENDING, limit=2)
    assert [candidate.request_id for candidate in first.candidates] == ["a", "b"]
    assert first.cursor is not None
    last = await stores.requests.entries(RequestStatus.PENDING, limit=2, cursor=first.cursor)
    assert [candidate.request_id for candidate in last.candidates] == ["c"]
    assert last.cursor is None


async def test_a_candidate_has_what_the_index_projects(stores: Stores) -> None:
    """It has action, tenant, CreatedAt and Version."""
    stored = await stores.requests.enqueue(AsyncRequest(action="echo", tenant_id="t1"))
    (candidate,) = (await stores.requests.entries(RequestStatus.PENDING, limit=1)).candidates
    assert (
        candidate.action,
        candidate.tenant_id,
        candidate.created_at,
        candidate.seen_version,
    ) == (
        "echo",
        "t1",
        stored.created_at,
        {"S": stored.version},
    )


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "5"])
async def test_a_limit_is_a_whole_number_from_one_on(stores: Stores, limit: Any) -> None:
    """Every other limit is refused by each list, page, count and by dequeue."""
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
async def test_an_unknown_status_is_refused(stores: Stores, status: Any) -> None:
    """Each list and update_status raise a ValidationError that names the field."""
    with pytest.raises(ValidationError, match=r"status: .* is not a request status"):
        await stores.requests.entries(status, limit=1)
    with pytest.raises(ValidationError, match="status"):
        await stores.requests.depth(status, limit=1)
    with pytest.raises(ValidationError, match="status"):
        await anext(aiter(stores.requests.get_by_status(status)))
    with pytest.raises(ValidationError, match="status"):
        await stores.requests.update_status("r1", status)


async def test_a_time_without_a_zone_is_refused(stores: Stores) -> None:
    """`since` must have a time zone."""
    with pytest.raises(ValidationError, match="since"):
        await stores.requests.entries(
            RequestStatus.PENDING,
            limit=1,
            since=datetime(2026, 1, 1),  # noqa: DTZ001
        )


async def test_lists_report_undecodable_requests(
    stores: Stores, clock: ManualClock, undecodable: list[Undecodable]
) -> None:
    """An undecodable request is reported by its key. The others are listed."""
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
    ids = [request.request_id async for request in stores.requests.get_by_connection("c1")]
    assert ids == ["a"]
    assert [(error.key, error.reason) for error in undecodable] == [
        ("broken", "RetryCount: expected a number, found str")
    ]


async def test_entries_can_start_at_a_time_and_be_newest_first(
    stores: Stores, clock: ManualClock
) -> None:
    """`since` is exact to the microsecond, although the index is queried by the second."""
    await _enqueue(stores, clock, "a")
    clock.advance(0.5)
    middle = clock.now()
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="b"))
    await _enqueue(stores, clock, "c")
    entries = stores.requests.entries
    page = await entries(RequestStatus.PENDING, limit=10, since=middle)
    assert [candidate.request_id for candidate in page.candidates] == ["b", "c"]
    page = await entries(RequestStatus.PENDING, limit=2, newest_first=True)
    assert [candidate.request_id for candidate in page.candidates] == ["c", "b"]
    page = await entries(RequestStatus.PENDING, limit=2, newest_first=True, cursor=page.cursor)
    assert [candidate.request_id for candidate in page.candidates] == ["a"]


async def test_times_with_fewer_digits_are_found_too(stores: Stores, clock: ManualClock) -> None:
    """Go writes a whole second without a fraction, which sorts after text with one."""
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
    assert [candidate.request_id for candidate in page.candidates] == ["go"]
    later = whole + timedelta(microseconds=1)
    page = await stores.requests.entries(RequestStatus.PENDING, limit=10, since=later)
    assert page.candidates == []


async def test_the_depth_of_a_status_is_counted(stores: Stores, clock: ManualClock) -> None:
    """It counts over pages up to the limit, and always has the oldest time."""
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


# Sorted by moment. Sorted by text, the order would be different.
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
    """Moments are compared, not their texts."""
    await _put_moments(stores, MOMENTS)
    names = list(MOMENTS)
    for number, name in enumerate(names):
        since = parse_time(MOMENTS[name])
        page = await stores.requests.entries(
            RequestStatus.PENDING, limit=100, since=since, newest_first=newest_first
        )
        expected = names[min(number, 3) :]  # the last two are one moment
        assert sorted(candidate.request_id for candidate in page.candidates) == sorted(expected)


@pytest.mark.parametrize(("year", "count"), [(1, len(MOMENTS)), (9999, 0)])
async def test_entries_from_the_ends_of_the_calendar_on(
    stores: Stores, year: int, count: int
) -> None:
    """The margin for offsets does not leave the calendar."""
    await _put_moments(stores, MOMENTS)
    since = datetime(year, 1, 1, tzinfo=UTC)
    page = await stores.requests.entries(RequestStatus.PENDING, limit=100, since=since)
    assert len(page.candidates) == count


async def test_the_oldest_is_found_by_its_moment(stores: Stores) -> None:
    """The order of text, newer requests and undecodable times do not change the result."""
    await _put_moments(stores, MOMENTS)
    later = {f"later {number:03}": f"2066-03-16T12:00:00.{number:06}Z" for number in range(250)}
    await _put_moments(stores, later | {"broken": "yesterday"})
    depth = await stores.requests.depth(RequestStatus.PENDING, limit=1000)
    assert depth.count == len(MOMENTS) + len(later) + 1
    assert depth.oldest == parse_time(MOMENTS["hour ago, west"])
    assert not depth.more


async def test_the_oldest_is_none_if_no_time_can_be_decoded(stores: Stores) -> None:
    """Requests with an undecodable or zero time are counted."""
    await _put_moments(stores, {"broken": "yesterday", "zero": "0001-01-01T00:00:00Z"})
    depth = await stores.requests.depth(RequestStatus.PENDING, limit=10)
    assert (depth.count, depth.oldest) == (2, None)


async def test_an_undecodable_request_is_reported_with_its_location(stores: Stores) -> None:
    """The error has the operation, the table and the key."""
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
