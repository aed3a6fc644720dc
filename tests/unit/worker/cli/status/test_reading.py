"""Reading a snapshot: what is on it, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from streamer_store import (
    AccessDenied,
    RequestStatus,
    Stores,
    StoreUnavailable,
    TableMissing,
)
from streamer_store.engine import Page, Put, Scan
from streamer_store.schema import REQUESTS, WORKERS
from streamer_worker.cli.status.reading import SnapshotReader
from support import ManualClock
from unit.worker.cli.status.tables import Spy, engine, enqueue, reader, register, stores

__all__ = ["engine", "reader", "stores"]
pytestmark = pytest.mark.anyio


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
