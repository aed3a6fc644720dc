"""The requests of a snapshot: which are read, and how much of them."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import (
    RequestStatus,
    Stores,
)
from streamer_store.engine import Page, Put, Query
from streamer_store.schema import REQUESTS, WORKERS, Table
from streamer_store.stores import stores_over
from streamer_store.times import format_time
from streamer_worker.cli.status.reading import SnapshotReader
from streamer_worker.settings import Settings
from support import START, ManualClock
from unit.worker.cli.status.snapshots import TARGET
from unit.worker.cli.status.tables import Spy, engine, enqueue, reader, register, stores

__all__ = ["engine", "reader", "stores"]
pytestmark = pytest.mark.anyio


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
