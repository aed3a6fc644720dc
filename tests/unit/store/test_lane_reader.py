"""How often DynamoDB is asked for DueIndex, and what counts as a refusal."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from streamer_store import (
    AccessDenied,
    InvalidInput,
    Lane,
    RequestQueue,
    StoreError,
    StoreUnavailable,
    TableMissing,
)
from streamer_store.engine import Page, Query
from streamer_store.memory import MemoryEngine
from streamer_store.schema import Index, Table
from streamer_store.stores import stores_over
from support import ManualClock

pytestmark = pytest.mark.anyio


class Engine(MemoryEngine):
    """Counts the questions, and fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.queried = 0
        self.has_index_error: Exception | None = None
        self.query_error: Exception | None = None

    async def has_index(self, table: Table, index: Index) -> bool:
        self.asked += 1
        if self.has_index_error is not None:
            raise self.has_index_error
        return await super().has_index(table, index)

    async def query(self, query: Query) -> Page:
        self.queried += 1
        if self.query_error is not None:
            raise self.query_error
        return await super().query(query)


class Bench:
    def __init__(self, clock: ManualClock) -> None:
        self.engine = Engine()
        self.clock = clock
        stores = stores_over(self.engine, clock=clock, rng=random.Random(7))
        self.requests: RequestQueue = stores.requests

    async def reads(self) -> bool:
        """Return whether DueIndex is read."""
        until = self.clock.now() + timedelta(days=1)
        return await self.requests.due_entries(Lane.DUE, until=until, limit=5) is not None


@pytest.fixture
def bench(clock: ManualClock) -> Bench:
    return Bench(clock)


async def test_the_question_is_asked_at_start_and_every_five_minutes(bench: Bench) -> None:
    """An index that is added is used then. One that is missing costs no query."""
    bench.engine.missing_indexes = {"DueIndex"}
    assert not await bench.reads()
    assert (bench.engine.asked, bench.engine.queried) == (1, 0)
    bench.engine.missing_indexes = set()
    bench.clock.advance(299)
    assert not await bench.reads()
    bench.clock.advance(1)
    assert await bench.reads()
    assert bench.engine.asked == 2
    for _ in range(3):
        assert await bench.reads()
    assert bench.engine.asked == 2


@pytest.mark.parametrize(
    "error",
    [
        TableMissing("the table does not have the specified index"),
        InvalidInput("Cannot read from backfilling global secondary index: DueIndex"),
        AccessDenied("not authorized to perform: dynamodb:Query"),
    ],
    ids=["deleted", "building", "denied"],
)
async def test_a_refused_query_means_no_until_the_next_question(
    bench: Bench, error: StoreError
) -> None:
    """The caller reads StatusIndex meanwhile, and no poll fails."""
    bench.engine.query_error = error
    assert not await bench.reads()
    assert not await bench.reads()
    depths = await bench.requests.lane_depths(Lane.DUE, now=bench.clock.now(), later=False, limit=5)
    assert depths is None
    assert bench.engine.queried == 1
    bench.engine.query_error = None
    bench.clock.advance(300)
    assert await bench.reads()


async def test_an_outage_is_no_refusal(bench: Bench) -> None:
    """The index is read again as soon as the table answers."""
    bench.engine.query_error = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await bench.reads()
    bench.engine.query_error = None
    assert await bench.reads()


@pytest.mark.parametrize("had_index", [True, False])
async def test_a_question_without_an_answer_keeps_the_last_one(
    bench: Bench, *, had_index: bool
) -> None:
    """DescribeTable has limits of its own. It is asked again after 10 s."""
    bench.engine.missing_indexes = set() if had_index else {"DueIndex"}
    assert await bench.reads() is had_index
    bench.engine.has_index_error = StoreUnavailable("throttled")
    bench.clock.advance(300)
    assert await bench.reads() is had_index
    bench.engine.has_index_error = None
    bench.engine.missing_indexes = {"DueIndex"} if had_index else set()
    bench.clock.advance(10)
    assert await bench.reads() is not had_index


async def test_until_the_first_answer_there_is_no_index(bench: Bench) -> None:
    bench.engine.has_index_error = AccessDenied("no DescribeTable")
    assert not await bench.reads()
    assert bench.engine.queried == 0
