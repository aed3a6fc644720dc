"""Reading a snapshot: what is read, how much of it, and what is refused."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from streamer_store import (
    AccessDenied,
    AsyncRequest,
    RequestStatus,
    Stores,
    StoreUnavailable,
    TableMissing,
    WorkerRow,
)
from streamer_store.engine import Page, Put, Query, Scan
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS, WORKERS, Table
from streamer_store.stores import stores_over
from streamer_store.times import format_time
from streamer_worker.cli.status.reading import SnapshotReader
from streamer_worker.settings import PresenceSettings, Settings
from support import START, ManualClock
from unit.worker.cli.status.snapshots import TARGET

pytestmark = pytest.mark.anyio


@dataclass
class Spy(MemoryEngine):
    """Counts the items that are read, and refuses reads."""

    refused: dict[tuple[Table, str], Exception] = field(default_factory=dict)
    items: int = 0
    calls: int = 0
    has_due_index: bool = True
    page_items: int = 4_000  # about 1 MB of small entries, as DynamoDB

    def __post_init__(self) -> None:
        super().__init__(page_items=self.page_items)

    def count(self, items: int, table: Table, value: str = "") -> None:
        for key in ((table, ""), (table, value)):
            if key in self.refused:
                raise self.refused[key]
        self.items += items
        self.calls += 1

    async def query(self, query: Query) -> Page:
        page = await super().query(query)
        self.count(page.count, query.table, query.value)
        return page

    async def scan(self, scan: Scan) -> Page:
        page = await super().scan(scan)
        self.count(len(page.items), scan.table)
        return page

    async def get_many(self, table: Table, keys: Any, *, attributes: Any = ()) -> list[Any]:
        items = await super().get_many(table, keys, attributes=attributes)
        self.count(len(items), table)
        return items

    async def has_index(self, table: Table, index: Any) -> bool:
        return self.has_due_index and await super().has_index(table, index)


@pytest.fixture
def engine() -> Spy:
    return Spy()


@pytest.fixture
def stores(engine: Spy, clock: ManualClock) -> Stores:
    return stores_over(engine, clock=clock, rng=random.Random(7))


@pytest.fixture
def reader(engine: Spy, clock: ManualClock) -> SnapshotReader:
    presence = PresenceSettings(heartbeat=0.1, lease=16.0)
    settings = Settings(presence=presence)
    return SnapshotReader(engine=engine, target=TARGET, settings=settings, clock=clock)


async def enqueue(stores: Stores, count: int = 1, **fields: Any) -> list[str]:
    fields.setdefault("action", "bill")
    return [
        (await stores.requests.enqueue(AsyncRequest(**fields))).request_id for _ in range(count)
    ]


async def register(stores: Stores, name: str = "w1", **fields: Any) -> None:
    await stores.workers.register(WorkerRow(worker_id=name, started_at=START, **fields))


async def test_empty_tables(reader: SnapshotReader) -> None:
    """Everything is known, and zero."""
    given = await reader.read()
    assert (given.workers, given.unreadable, given.differences) == ([], [], [])
    assert {status: depth.count for status, depth in given.depths.items()} == {
        RequestStatus.PENDING: 0,
        RequestStatus.RETRYING: 0,
        RequestStatus.SCHEDULED: 0,
        RequestStatus.PROCESSING: 0,
    }
    assert given.completed is not None
    assert given.completed.per_minute(given.now) == 0


@pytest.mark.parametrize("has_due_index", [True, False])
async def test_waiting_requests_are_due_or_later(
    engine: Spy, stores: Stores, clock: ManualClock, reader: SnapshotReader, *, has_due_index: bool
) -> None:
    """With DueIndex and without. Low priority is SCHEDULED and due at once."""
    engine.has_due_index = has_due_index
    await enqueue(stores, 3)
    clock.advance(30)
    for after in (10, 10, 3600):
        (claim,) = await stores.requests.dequeue(1)
        await stores.requests.retry(claim, timedelta(seconds=after), error="no", code="TIMEOUT")
    clock.advance(100)
    await enqueue(stores, 2, action="mail")
    clock.advance(20)
    given = await reader.read()
    pending = given.depths[RequestStatus.PENDING]
    assert (pending.count, pending.actions["mail"].count, pending.arrived) == (2, 2, 2)
    assert pending.oldest == clock.now() - timedelta(seconds=20)
    retrying = given.depths[RequestStatus.RETRYING]
    assert (retrying.count, retrying.later, retrying.more) == (2, 1, False)
    assert retrying.oldest == clock.now() - timedelta(seconds=110)  # since when they are due
    assert given.retrying is not None
    assert [each.code for each in given.retrying.requests] == ["TIMEOUT"] * 3


async def test_ended_requests_are_read_once(
    engine: Spy, stores: Stores, clock: ManualClock, reader: SnapshotReader
) -> None:
    """The next screen reads only those that ended since. A redrive is noticed."""
    await enqueue(stores, 4)
    claims = await stores.requests.dequeue(4)
    for claim in claims[:3]:
        await stores.requests.fail(claim, "it broke", "BROKEN")
    first = await reader.read()
    (failures,) = first.recent_failures()
    assert (failures.action, failures.code, failures.count) == ("bill", "BROKEN", 3)
    batches: list[Any] = []
    read_many = engine.get_many

    async def note(table: Table, keys: Any, **more: Any) -> list[Any]:
        batches.append(sorted(keys))
        return await read_many(table, keys, **more)

    engine.get_many = note  # type: ignore[method-assign]
    await stores.requests.fail(claims[3], "it broke", "BROKEN")
    second = await reader.read()
    assert [batch for batch in batches if batch] == [[claims[3].request_id]]
    assert second.recent_failures()[0].count == 4
    await stores.requests.redrive(claims[0].request_id)
    assert (await reader.read()).recent_failures()[0].count == 3
    clock.advance(3601)
    assert (await reader.read()).recent_failures() == []


async def test_failures_beyond_a_short_page_are_read(clock: ManualClock) -> None:
    """A page of StatusIndex may have few entries, as DynamoDB Local counts whole items."""
    engine = Spy(page_items=4)
    stores = stores_over(engine, clock=clock, rng=random.Random(7))
    await enqueue(stores, 10)
    for claim in await stores.requests.dequeue(10):
        await stores.requests.fail(claim, "it broke", "BROKEN")
    reader = SnapshotReader(engine=engine, target=TARGET, settings=Settings(), clock=clock)
    (failures,) = (await reader.read()).recent_failures()
    assert failures.count == 10


async def test_reads_are_bounded(engine: Spy, reader: SnapshotReader) -> None:
    """Twice as many requests and rows cost the same. What is cut says so."""

    async def fill(start: int) -> None:
        for number in range(start, start + 2_500):
            for status in ("PENDING", "COMPLETED", "FAILED", "PROCESSING"):
                item = {
                    "RequestID": {"S": f"{status}{number}"},
                    "Status": {"S": status},
                    "Action": {"S": "bill"},
                    "CreatedAt": {"S": format_time(START)},
                    "ProcessingEnded": {"S": format_time(START)},
                    "WorkerID": {"S": f"w{number}"},
                }
                await engine.put(Put(table=REQUESTS, item=item))
            await engine.put(
                Put(
                    table=WORKERS,
                    item={
                        "WorkerID": {"S": f"w{number}"},
                        "StartedAt": {"S": format_time(START)},
                        "SeenAt": {"S": format_time(START)},
                    },
                )
            )

    await fill(0)
    engine.items = engine.calls = 0
    first = await reader.read()
    cost = engine.items
    assert cost <= 2_000 + 2 * 1_000 + 2 * 2 * 100
    assert engine.calls < 30
    assert first.workers is not None
    assert (len(first.workers), first.workers_more) == (2_000, True)
    assert (first.depths[RequestStatus.PENDING].count, first.waiting_more) == (1_000, True)
    assert first.depths[RequestStatus.PENDING].arrived is None
    assert first.failed is not None
    assert (len(first.failed.requests), first.failed.full) == (100, True)
    await fill(2_500)
    engine.items = 0
    await reader.read()
    assert engine.items <= cost


async def test_orphans_are_confirmed_in_the_table(
    engine: Spy, stores: Stores, reader: SnapshotReader
) -> None:
    """A request without a WorkerID is left out: it belongs to a simple consumer."""
    await register(stores, "w1")
    await enqueue(stores, 4)
    page = await stores.requests.entries(RequestStatus.PENDING, limit=9)
    for candidate, name in zip(page.candidates, ("w1", "gone", "gone", None), strict=True):
        await stores.requests.claim(candidate, worker_id=name)
    given = await reader.read()
    assert given.orphans == sorted(entry.request_id for entry in page.candidates[1:3])
    query = engine.query

    async def stale(asked: Query) -> Page:
        """Answer as an index that lags: it shows a request that has ended."""
        found = await query(asked)
        if asked.value == "PROCESSING":
            await engine.delete_many(REQUESTS, [given.orphans[0]])
        return found

    engine.query = stale  # type: ignore[method-assign,assignment]
    assert (await reader.read()).orphans == given.orphans[1:]


async def test_a_request_that_was_claimed_meanwhile_is_no_orphan(
    engine: Spy, stores: Stores, reader: SnapshotReader
) -> None:
    """The index shows its lost worker, and the table shows one that has just started."""
    await register(stores, "w1")
    await enqueue(stores)
    (candidate,) = (await stores.requests.entries(RequestStatus.PENDING, limit=9)).candidates
    await stores.requests.claim(candidate, worker_id="gone")
    get_many = engine.get_many

    async def newer(table: Table, keys: Any, **more: Any) -> list[Any]:
        return [{**item, "WorkerID": {"S": "new"}} for item in await get_many(table, keys, **more)]

    assert len((await reader.read()).orphans) == 1
    engine.get_many = newer  # type: ignore[method-assign]
    assert (await reader.read()).orphans == []


async def test_a_worker_with_a_wrong_clock_is_read_twice(
    engine: Spy, stores: Stores, clock: ManualClock, reader: SnapshotReader
) -> None:
    """Its Beat changes meanwhile, so that it lives."""
    await register(stores)
    clock.advance(120)
    scan = engine.scan
    beats: list[int] = []

    async def beating(asked: Scan) -> Page:
        found = await scan(asked)
        if asked.table is WORKERS:
            beats.append(len(found.items))
            await stores.workers.beat("w1", in_flight=0, draining=False, sweeps=0)
        return found

    engine.scan = beating  # type: ignore[method-assign,assignment]
    given = await reader.read()
    assert len(beats) == 2
    assert [worker.beating for worker in given.workers or ()] == [True]
    clock.advance(500)
    await reader.read()
    assert len(beats) == 3  # only the first screen waits for a heartbeat


async def test_the_time_is_that_of_dynamodb(
    stores: Stores, clock: ManualClock, reader: SnapshotReader
) -> None:
    """If this machine's clock is off by more than a call takes."""
    await register(stores)

    def answer(seconds: float) -> dict[str, Any]:
        date = format_datetime(clock.now() + timedelta(seconds=seconds), usegmt=True)
        return {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}

    reader.on_answer(answer(-2))
    assert (await reader.read()).now == clock.now()
    reader.on_answer(answer(-30))  # this answer was slow to be read
    reader.on_answer(answer(0))
    assert (await reader.read()).now == clock.now()
    reader.on_answer(answer(900))
    given = await reader.read()
    ahead = (given.now - clock.now()).total_seconds()  # the header has whole seconds
    assert ahead == pytest.approx(900, abs=1)
    assert given.clock_offset == -ahead
    for strange in ({}, None, {"ResponseMetadata": {"HTTPHeaders": {"date": "yesterday"}}}):
        reader.on_answer(strange)
    assert (await reader.read()).clock_offset == -ahead


@pytest.mark.parametrize("error", [AccessDenied("not allowed"), TableMissing("no such table")])
async def test_a_table_that_cannot_be_read_hides_no_other(
    error: Exception, engine: Spy, stores: Stores, reader: SnapshotReader
) -> None:
    """What is refused is listed, and is not zero."""
    await register(stores)
    await enqueue(stores, 2)
    engine.refused[WORKERS, ""] = error
    engine.refused[REQUESTS, "FAILED"] = error
    given = await reader.read()
    assert given.depths[RequestStatus.PENDING].count == 2
    assert (given.workers, given.failed) == (None, None)
    assert {each.what: each.essential for each in given.unreadable} == {
        "workers": True,
        "requests FAILED": False,
    }
    engine.refused.clear()
    engine.refused[REQUESTS, ""] = error
    given = await reader.read()
    assert given.depths == {}
    assert len(given.workers or ()) == 1


async def test_an_outage_is_raised(engine: Spy, reader: SnapshotReader) -> None:
    """As one error, not as a group of those of all reads."""
    engine.refused[REQUESTS, ""] = StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        await reader.read()
    engine.refused = {
        (REQUESTS, "PENDING"): StoreUnavailable("no answer"),
        (WORKERS, ""): StoreUnavailable("no answer"),
    }
    with pytest.raises(StoreUnavailable):
        await reader.read()


async def test_items_that_cannot_be_decoded(
    engine: Spy, stores: Stores, reader: SnapshotReader
) -> None:
    """They are reported, a hundred at most, and the others are counted."""
    await register(stores)
    for number in range(150):
        await engine.put(Put(table=WORKERS, item={"WorkerID": {"S": f"bad{number}"}}))
    await engine.put(
        Put(
            table=REQUESTS,
            item={
                "RequestID": {"S": "r1"},
                "Status": {"S": "PENDING"},
                "CreatedAt": {"S": "yesterday"},
                "Action": {"N": "1"},
            },
        )
    )
    given = await reader.read()
    assert len(given.workers or ()) == 1
    assert given.depths[RequestStatus.PENDING].count == 1
    assert given.depths[RequestStatus.PENDING].oldest is None
    assert len(given.undecodable) == 100
    assert (await reader.read()).undecodable == given.undecodable
