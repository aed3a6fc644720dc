"""Queries and scans in memory: order, pages, projections, segments."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_store.engine import Put, Query, Scan, paginate
from streamer_store.memory import MemoryEngine
from streamer_store.schema import CONNECTIONS, REQUESTS
from streamer_store.values import Item

pytestmark = pytest.mark.anyio

BY_STATUS = REQUESTS.index("StatusIndex")
BY_CONNECTION = REQUESTS.index("ConnectionIndex")
BY_USER = CONNECTIONS.index("UserIndex")


def request(key: str, created: str | None, status: str = "PENDING", **more: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"RequestID": {"S": key}, "Status": {"S": status}} | more
    return item if created is None else item | {"CreatedAt": {"S": created}}


async def filled(*items: Item, page_items: int = 100) -> MemoryEngine:
    engine = MemoryEngine(page_items=page_items)
    for item in items:
        await engine.put(Put(table=REQUESTS, item=item))
    return engine


async def pages(engine: MemoryEngine, **arguments: Any) -> list[list[str]]:
    """Return the keys of all pages of a query for PENDING."""
    query = Query(table=REQUESTS, index=BY_STATUS, value="PENDING", **arguments)
    return [
        [item["RequestID"]["S"] for item in page.items]
        async for page in paginate(engine.query, query)
    ]


THREE = (request("b", "1"), request("c", "2"), request("a", "3"))


async def test_a_query_is_in_the_order_of_the_range_key() -> None:
    """Oldest first, or newest first when asked."""
    engine = await filled(*reversed(THREE))
    assert await pages(engine) == [["b", "c", "a"]]
    assert await pages(engine, ascending=False) == [["a", "c", "b"]]


async def test_a_query_returns_only_items_with_its_value() -> None:
    """Items with another value, or without the index's key, are not in the index."""
    engine = await filled(
        *THREE, request("d", "4", "FAILED"), request("e", None), {"RequestID": {"S": "f"}}
    )
    assert await pages(engine) == [["b", "c", "a"]]


@pytest.mark.parametrize(("limit", "page_items"), [(2, 100), (None, 2), (5, 2)])
@pytest.mark.parametrize("ascending", [True, False])
async def test_pages_follow_one_another_without_gap_or_repetition(
    limit: int | None, page_items: int, *, ascending: bool
) -> None:
    """A page has at most `limit` items, and at most the engine's own page size."""
    engine = await filled(*THREE, page_items=page_items)
    expected = ["b", "c", "a"] if ascending else ["a", "c", "b"]
    keys = await pages(engine, limit=limit, ascending=ascending)
    assert keys == [expected[:2], expected[2:]]


async def test_items_with_equal_range_keys_are_paged_by_hash_key() -> None:
    """Requests of one moment are neither lost nor repeated between pages."""
    engine = await filled(*(request(key, "1") for key in "cab"))
    assert await pages(engine, limit=1) == [["a"], ["b"], ["c"]]


async def test_a_last_evaluated_key_has_key_attributes_only() -> None:
    """It has the keys of the table and of the index, as in DynamoDB, and no payload."""
    engine = await filled(
        *(request(key, "1", ConnectionID={"S": "c"}, Payload={"M": {}}) for key in "ab"),
        page_items=1,
    )
    by_status = await engine.query(Query(table=REQUESTS, index=BY_STATUS, value="PENDING"))
    assert set(by_status.last_evaluated_key or ()) == {"RequestID", "Status", "CreatedAt"}
    by_connection = await engine.query(Query(table=REQUESTS, index=BY_CONNECTION, value="c"))
    assert set(by_connection.last_evaluated_key or ()) == {"RequestID", "ConnectionID", "CreatedAt"}
    scanned = await engine.scan(Scan(table=REQUESTS))
    assert set(scanned.last_evaluated_key or ()) == {"RequestID"}


async def test_a_start_key_works_after_its_item_was_deleted() -> None:
    """The next page starts at the next item."""
    engine = await filled(*THREE)
    first = await engine.query(Query(table=REQUESTS, index=BY_STATUS, value="PENDING", limit=1))
    await engine.delete_many(REQUESTS, ["b"])
    rest = await engine.query(
        Query(
            table=REQUESTS,
            index=BY_STATUS,
            value="PENDING",
            exclusive_start_key=first.last_evaluated_key,
        )
    )
    assert [item["RequestID"]["S"] for item in rest.items] == ["c", "a"]


async def test_an_index_returns_only_the_attributes_it_projects() -> None:
    """As in DynamoDB, other attributes must be read from the table."""
    item = request("a", "1", Action={"S": "echo"}, Payload={"M": {}}, ConnectionID={"S": "c"})
    engine = await filled(item)
    by_status = await engine.query(Query(table=REQUESTS, index=BY_STATUS, value="PENDING"))
    assert set(by_status.items[0]) == {"RequestID", "Status", "CreatedAt", "Action"}
    by_connection = await engine.query(Query(table=REQUESTS, index=BY_CONNECTION, value="c"))
    assert set(by_connection.items[0]) == {"RequestID", "ConnectionID", "CreatedAt"}


async def test_an_index_that_projects_all_returns_the_whole_item() -> None:
    """UserIndex projects all attributes and has no range key."""
    engine = MemoryEngine()
    item = {"ConnectionID": {"S": "c"}, "UserID": {"S": "u"}, "Endpoint": {"S": "x"}}
    await engine.put(Put(table=CONNECTIONS, item=item))
    page = await engine.query(Query(table=CONNECTIONS, index=BY_USER, value="u"))
    assert page.items == [item]


@pytest.mark.parametrize("segments", [1, 2, 5])
async def test_segments_together_cover_the_whole_table(segments: int) -> None:
    """Each item is in exactly one segment, over all pages."""
    keys = [f"r{n:02}" for n in range(30)]
    engine = await filled(*(request(key, "1") for key in keys), page_items=4)
    scanned_keys = []
    for segment in range(segments):
        scan = Scan(table=REQUESTS, segment=segment, segments=segments)
        async for page in paginate(engine.scan, scan):
            scanned_keys += [item["RequestID"]["S"] for item in page.items]
    assert sorted(scanned_keys) == keys


@pytest.mark.parametrize(("limit", "page_items"), [(2, 100), (None, 2), (5, 2)])
async def test_a_scan_has_a_limit(limit: int | None, page_items: int) -> None:
    """A page has at most that many items, and at most those of one page."""
    engine = await filled(*THREE, page_items=page_items)
    page = await engine.scan(Scan(table=REQUESTS, limit=limit))
    assert len(page.items) == 2
    assert page.last_evaluated_key is not None


async def test_a_scan_returns_the_requested_attributes() -> None:
    """Attributes that an item does not have are left out."""
    engine = await filled(request("a", "1"), request("b", None))
    page = await engine.scan(Scan(table=REQUESTS, attributes=("RequestID", "CreatedAt")))
    assert page.items == [
        {"RequestID": {"S": "a"}, "CreatedAt": {"S": "1"}},
        {"RequestID": {"S": "b"}},
    ]


async def test_a_scan_leaves_out_text_between_the_bounds() -> None:
    """Items with other text, with another type, or without the attribute are returned."""
    engine = await filled(
        *(request("below", "1"), request("equal", "2"), request("above", "3")),
        request("outside", "yesterday"),
        request("absent", None),
        request("number", None, CreatedAt={"N": "3"}),
    )
    page = await engine.scan(Scan(table=REQUESTS, not_between=("CreatedAt", "2", ":")))
    keys = {item["RequestID"]["S"] for item in page.items}
    assert keys == {"below", "absent", "number", "outside"}


async def test_a_filtered_page_may_be_empty_and_not_the_last() -> None:
    """As in DynamoDB, a page is read first and filtered afterwards."""
    engine = await filled(request("a", "3"), request("b", "1"), page_items=1)
    page = await engine.scan(Scan(table=REQUESTS, not_between=("CreatedAt", "2", ":")))
    assert page.items == []
    assert page.last_evaluated_key is not None


async def test_a_filter_may_use_an_attribute_that_is_not_returned() -> None:
    """As in DynamoDB, the filter sees the whole item."""
    engine = await filled(request("a", "3"), request("b", "1"))
    page = await engine.scan(
        Scan(table=REQUESTS, attributes=("RequestID",), not_between=("CreatedAt", "2", ":"))
    )
    assert page.items == [{"RequestID": {"S": "b"}}]


async def test_a_query_may_begin_at_a_range_key() -> None:
    """The item at the bound is returned."""
    engine = await filled(*THREE)
    assert await pages(engine, at_least={"S": "2"}) == [["c", "a"]]


async def test_a_query_may_end_at_a_range_key() -> None:
    """The items at the bounds are returned."""
    engine = await filled(*THREE)
    assert await pages(engine, at_most={"S": "2"}) == [["b", "c"]]
    assert await pages(engine, at_least={"S": "2"}, at_most={"S": "2"}) == [["c"]]
    assert await pages(engine, at_least={"S": "4"}, at_most={"S": "5"}) == [[]]
