"""Reading the lanes of DueIndex: how far, how often, and what is corrected."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import AsyncRequest, Priority, StoreUnavailable
from streamer_store.engine import Page, Put, Query, Update
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS
from streamer_store.stores import stores_over
from streamer_store.times import format_time
from streamer_store.values import Item
from streamer_worker.intake.index_reader import IndexReader
from support import ManualClock

pytestmark = pytest.mark.anyio


class Engine(MemoryEngine):
    """Records which partitions are read, and which items are updated."""

    def __init__(self) -> None:
        super().__init__(page_items=1000)
        self.read: list[str] = []
        self.updated: list[str] = []
        self.frozen: dict[str, Page] | None = None
        self.update_error: Exception | None = None

    async def query(self, query: Query) -> Page:
        self.read.append(query.value)
        if self.frozen is not None and query.value in self.frozen:
            return self.frozen[query.value]
        return await super().query(query)

    async def update(self, update: Update) -> Item:
        self.updated.append(update.key)
        if self.update_error is not None:
            raise self.update_error
        return await super().update(update)


class Bench:
    """An index reader on stores in memory, on a manual clock."""

    def __init__(self, clock: ManualClock, **settings: Any) -> None:
        self.clock = clock
        self.engine = Engine()
        self.requests = stores_over(self.engine, clock=clock, rng=random.Random(7)).requests
        self.reader = IndexReader(requests=self.requests, clock=clock, **settings)

    async def enqueue(self, request_id: str, **fields: Any) -> None:
        made = AsyncRequest(action="echo", request_id=request_id, **fields)
        await self.requests.enqueue(made)

    async def retrying(self, request_id: str, after: float, **fields: Any) -> None:
        await self.enqueue(request_id, **fields)
        (claim,) = await self.requests.dequeue(1)
        await self.requests.retry(claim, timedelta(seconds=after))

    async def raw(self, request_id: str, status: str, lane: str) -> None:
        """Write a request that an older release left in a lane."""
        now = {"S": format_time(self.clock.now())}
        item: dict[str, Any] = {
            "RequestID": {"S": request_id},
            "Status": {"S": status},
            "CreatedAt": now,
            "RetryAfter": now,
            "Action": {"S": "echo"},
            "Version": {"S": f"v{request_id}"},
            "DueLane": {"S": lane},
            "DueAt": now,
        }
        await self.engine.put(Put(table=REQUESTS, item=item))

    async def read(self, *, seconds: float = 1.0, page_size: int = 100) -> list[str]:
        """Let time pass and read once. Return the ids, and record what was read."""
        self.clock.advance(seconds)
        self.engine.read.clear()
        self.engine.updated.clear()
        return [entry.request_id for entry in await self.reader.read(page_size)]


@pytest.fixture
def bench(clock: ManualClock) -> Bench:
    return Bench(clock)


async def test_what_waits_for_later_is_not_read(bench: Bench) -> None:
    """Requests that are due soon are, so that they start on time."""
    for request_id, after in (("now", 0.0), ("soon", 2.5), ("later", 60.0)):
        await bench.retrying(request_id, after)
    await bench.enqueue("new")
    assert await bench.read() == ["new", "now", "soon"]
    assert bench.engine.read == ["PENDING", "high", "due", "low"]


async def test_lanes_are_read_further_ahead_where_polls_are_rare(clock: ManualClock) -> None:
    """By the longest pause between two polls."""
    bench = Bench(clock, max_pause=10.0)
    await bench.retrying("a", 12.5)
    await bench.retrying("b", 13.5)
    assert await bench.read() == ["a"]


async def test_high_requests_of_a_producer_whose_clock_is_ahead_are_read(bench: Bench) -> None:
    """They are PENDING, and a PENDING request may always run."""
    ahead = bench.clock.now() + timedelta(minutes=4)
    await bench.enqueue("a", priority=Priority.HIGH, created_at=ahead)
    await bench.enqueue("b", priority=Priority.LOW)
    assert await bench.read() == ["a", "a", "b"]


async def test_an_empty_lane_is_read_once_a_second(bench: Bench) -> None:
    """An idle worker costs no more than with two statuses."""
    await bench.read()
    for _ in range(3):
        await bench.read(seconds=0.25)
        bench.reader.on_polled(claimed=0)
        assert bench.engine.read == ["PENDING"]
    await bench.read(seconds=0.25)
    assert bench.engine.read == ["PENDING", "high", "due", "low"]


async def test_a_lane_without_a_claim_on_a_whole_pass_is_read_once_a_second(bench: Bench) -> None:
    """Its requests are for other workers, or meet a limit."""
    await bench.retrying("a", 0)
    assert await bench.read() == ["a"]
    bench.reader.on_polled(claimed=0)
    assert await bench.read(seconds=0.5) == []
    assert await bench.read(seconds=0.5) == ["a"]


async def test_retries_at_once_are_found_at_once_while_requests_are_claimed(bench: Bench) -> None:
    """A handler may ask to be called again at once."""
    await bench.read()
    bench.reader.on_polled(claimed=1)
    await bench.retrying("a", 0)
    assert await bench.read(seconds=0.1) == ["a"]
    assert bench.engine.read == ["PENDING", "due"]


async def test_the_cursor_passes_through_a_lane(bench: Bench) -> None:
    """Requests at the front that cannot run do not hide the others."""
    for number in range(25):
        await bench.retrying(f"{number:02}", 0)
    ids = [f"{number:02}" for number in range(25)]
    first = await bench.read(page_size=10)
    assert first == ids
    assert bench.reader.has_read_all
    bench.clock.advance(-0.5)  # a clock that is set back does not move a cursor out of its range
    assert sorted(await bench.read(page_size=10)) == ids


@pytest.mark.parametrize("status", ["PROCESSING", "COMPLETED", "FAILED", "CANCELLED"])
async def test_an_entry_that_does_not_wait_is_removed(bench: Bench, status: str) -> None:
    """It is no candidate."""
    await bench.raw("a", status, "due")
    assert await bench.read() == []
    assert bench.engine.updated == ["a"]
    item = await bench.engine.get(REQUESTS, "a")
    assert item is not None
    assert "DueLane" not in item
    assert item["Version"] == {"S": "va"}


async def test_a_waiting_request_in_a_wrong_lane_is_a_candidate_and_corrected(
    bench: Bench,
) -> None:
    """Whether it may run is decided by its status and its time."""
    await bench.raw("a", "RETRYING", "low")
    assert await bench.read() == ["a"]
    assert bench.engine.updated == ["a"]
    assert await bench.read() == ["a"]
    assert bench.engine.updated == []


async def test_an_entry_is_corrected_once_although_the_index_lags(bench: Bench) -> None:
    """Another change of the request makes it a new entry."""
    await bench.raw("a", "COMPLETED", "due")
    until = bench.clock.now() + timedelta(days=1)
    page = await bench.engine.query(
        Query(
            table=REQUESTS,
            index=REQUESTS.index("DueIndex"),
            value="due",
            at_most={"S": format_time(until)},
        )
    )
    bench.engine.frozen = {"due": page}
    await bench.read()
    assert bench.engine.updated == ["a"]
    await bench.read()
    assert bench.engine.updated == []
    bench.engine.frozen = None
    await bench.raw("a", "RETRYING", "high")
    await bench.read()
    assert bench.engine.updated == ["a"]


async def test_a_correction_that_fails_does_not_fail_the_read(bench: Bench) -> None:
    """It is tried again when the entry is met again."""
    await bench.raw("a", "COMPLETED", "due")
    bench.engine.update_error = StoreUnavailable("away")
    assert await bench.read() == []
    bench.engine.update_error = None
    await bench.read()
    assert bench.engine.updated == ["a"]


async def test_one_read_corrects_25_entries_at_most(bench: Bench) -> None:
    """After months beside an older release there may be many, and requests wait to run."""
    for number in range(60):
        await bench.raw(f"{number:02}", "COMPLETED", "due")
    corrected = []
    for _ in range(4):
        await bench.read()
        corrected.append(len(bench.engine.updated))
    assert corrected == [25, 25, 10, 0]


async def test_without_the_index_all_waiting_statuses_are_read(bench: Bench) -> None:
    """SCHEDULED once a second if there are none, because few tables have any."""
    bench.engine.missing_indexes = {"DueIndex"}
    await bench.retrying("later", 60)
    await bench.enqueue("low", priority=Priority.LOW)
    await bench.enqueue("new")
    assert await bench.read() == ["new", "later", "low"]
    assert bench.engine.read == ["PENDING", "RETRYING", "SCHEDULED"]
    await bench.requests.cancel("low")
    await bench.read(seconds=0.1)
    await bench.read(seconds=0.1)
    assert bench.engine.read == ["PENDING", "RETRYING"]
    await bench.read()
    assert bench.engine.read == ["PENDING", "RETRYING", "SCHEDULED"]


async def test_an_index_that_is_deleted_or_added_is_noticed(bench: Bench) -> None:
    """No read fails, and no waiting request is missed."""
    await bench.retrying("a", 0)
    assert await bench.read() == ["a"]
    bench.engine.missing_indexes = {"DueIndex"}
    assert await bench.read() == ["a"]
    assert bench.engine.read == ["PENDING", "high", "RETRYING", "SCHEDULED"]
    bench.engine.missing_indexes = set()
    assert await bench.read(seconds=299) == ["a"]
    assert bench.engine.read == ["PENDING", "RETRYING", "SCHEDULED"]
    assert await bench.read() == ["a"]
    assert bench.engine.read == ["PENDING", "high", "due", "low"]
