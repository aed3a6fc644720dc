"""Queries and scans in memory: order, pages, projections, segments."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_store.engine import Put, Query, Scan
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


async def filled(*items: Item, page: int = 100) -> MemoryEngine:
    engine = MemoryEngine(page=page)
    for item in items:
        await engine.put(Put(table=REQUESTS, item=item))
    return engine


async def pages(engine: MemoryEngine, **query: Any) -> list[list[str]]:
    """Return the keys of all pages of a query for PENDING."""
    found = []
    after = None
    while True:
        page = await engine.query(
            Query(table=REQUESTS, index=BY_STATUS, value="PENDING", after=after, **query)
        )
        found.append([item["RequestID"]["S"] for item in page.items])
        after = page.after
        if after is None:
            return found


THREE = (request("b", "1"), request("c", "2"), request("a", "3"))


async def test_a_query_is_in_the_order_of_the_range_key() -> None:
    """Oldest first, or newest first when asked."""
    engine = await filled(*reversed(THREE))
    assert await pages(engine) == [["b", "c", "a"]]
    assert await pages(engine, ascending=False) == [["a", "c", "b"]]


async def test_a_query_finds_only_its_value() -> None:
    """Items with another value, or without the index's key, are not in the index."""
    engine = await filled(
        *THREE, request("d", "4", "FAILED"), request("e", None), {"RequestID": {"S": "f"}}
    )
    assert await pages(engine) == [["b", "c", "a"]]


@pytest.mark.parametrize(("limit", "page"), [(2, 100), (None, 2), (5, 2)])
@pytest.mark.parametrize("ascending", [True, False])
async def test_pages_follow_one_another_without_gap_or_repetition(
    limit: int | None, page: int, *, ascending: bool
) -> None:
    """A page holds as many as asked, and no more than the engine gives at a time."""
    engine = await filled(*THREE, page=page)
    expected = ["b", "c", "a"] if ascending else ["a", "c", "b"]
    found = await pages(engine, limit=limit, ascending=ascending)
    assert found == [expected[:2], expected[2:]]


async def test_equal_range_keys_are_told_apart_by_the_key() -> None:
    """Requests of one moment are neither lost nor repeated between pages."""
    engine = await filled(*(request(key, "1") for key in "cab"))
    assert await pages(engine, limit=1) == [["a"], ["b"], ["c"]]


async def test_a_cursor_is_made_of_keys() -> None:
    """Those of the table and of the index, as DynamoDB's are; no payload is kept in it."""
    engine = await filled(
        *(request(key, "1", ConnectionID={"S": "c"}, Payload={"M": {}}) for key in "ab"), page=1
    )
    by_status = await engine.query(Query(table=REQUESTS, index=BY_STATUS, value="PENDING"))
    assert set(by_status.after or ()) == {"RequestID", "Status", "CreatedAt"}
    by_connection = await engine.query(Query(table=REQUESTS, index=BY_CONNECTION, value="c"))
    assert set(by_connection.after or ()) == {"RequestID", "ConnectionID", "CreatedAt"}
    scanned = await engine.scan(Scan(table=REQUESTS))
    assert set(scanned.after or ()) == {"RequestID"}


async def test_a_cursor_holds_when_its_item_is_gone() -> None:
    """The next page begins where the item stood."""
    engine = await filled(*THREE)
    first = await engine.query(Query(table=REQUESTS, index=BY_STATUS, value="PENDING", limit=1))
    await engine.delete_many(REQUESTS, ["b"])
    rest = await engine.query(
        Query(table=REQUESTS, index=BY_STATUS, value="PENDING", after=first.after)
    )
    assert [item["RequestID"]["S"] for item in rest.items] == ["c", "a"]


async def test_a_slim_index_gives_only_what_it_carries() -> None:
    """As in DynamoDB, the rest must be read from the table."""
    item = request("a", "1", Action={"S": "echo"}, Payload={"M": {}}, ConnectionID={"S": "c"})
    engine = await filled(item)
    by_status = await engine.query(Query(table=REQUESTS, index=BY_STATUS, value="PENDING"))
    assert set(by_status.items[0]) == {"RequestID", "Status", "CreatedAt", "Action"}
    by_connection = await engine.query(Query(table=REQUESTS, index=BY_CONNECTION, value="c"))
    assert set(by_connection.items[0]) == {"RequestID", "ConnectionID", "CreatedAt"}


async def test_a_full_index_gives_the_whole_item() -> None:
    """An index without a range key, that projects all."""
    engine = MemoryEngine()
    item = {"ConnectionID": {"S": "c"}, "UserID": {"S": "u"}, "Endpoint": {"S": "x"}}
    await engine.put(Put(table=CONNECTIONS, item=item))
    page = await engine.query(Query(table=CONNECTIONS, index=BY_USER, value="u"))
    assert page.items == [item]


@pytest.mark.parametrize("segments", [1, 2, 5])
async def test_segments_together_are_the_whole_table(segments: int) -> None:
    """Each item is in exactly one segment, over all pages."""
    keys = [f"r{n:02}" for n in range(30)]
    engine = await filled(*(request(key, "1") for key in keys), page=4)
    found = []
    for segment in range(segments):
        after = None
        while True:
            page = await engine.scan(
                Scan(table=REQUESTS, segment=segment, segments=segments, after=after)
            )
            found += [item["RequestID"]["S"] for item in page.items]
            after = page.after
            if after is None:
                break
    assert sorted(found) == keys


async def test_a_scan_gives_the_attributes_that_were_asked_for() -> None:
    """And only those that the item has."""
    engine = await filled(request("a", "1"), request("b", None))
    page = await engine.scan(Scan(table=REQUESTS, attributes=("RequestID", "CreatedAt")))
    assert page.items == [
        {"RequestID": {"S": "a"}, "CreatedAt": {"S": "1"}},
        {"RequestID": {"S": "b"}},
    ]


async def test_a_scan_leaves_out_text_between_the_bounds() -> None:
    """Text outside, other types and absent attributes stay: the code decides on those."""
    engine = await filled(
        *(request("below", "1"), request("equal", "2"), request("above", "3")),
        request("outside", "yesterday"),
        request("absent", None),
        request("number", None, CreatedAt={"N": "3"}),
    )
    page = await engine.scan(Scan(table=REQUESTS, unless_between=("CreatedAt", "2", ":")))
    found = {item["RequestID"]["S"] for item in page.items}
    assert found == {"below", "absent", "number", "outside"}


async def test_a_filtered_page_may_be_empty_and_not_the_last() -> None:
    """As in DynamoDB, the filter works on a page once it is read."""
    engine = await filled(request("a", "3"), request("b", "1"), page=1)
    page = await engine.scan(Scan(table=REQUESTS, unless_between=("CreatedAt", "2", ":")))
    assert page.items == []
    assert page.after is not None


async def test_a_filter_may_ask_for_what_the_scan_does_not_return() -> None:
    """As in DynamoDB, the filter sees the whole item."""
    engine = await filled(request("a", "3"), request("b", "1"))
    page = await engine.scan(
        Scan(table=REQUESTS, attributes=("RequestID",), unless_between=("CreatedAt", "2", ":"))
    )
    assert page.items == [{"RequestID": {"S": "b"}}]
