"""How a bulk operation takes its items, and what it does about errors. On trio's virtual clock."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing

import anyio
import pytest
from trio.testing import MockClock

from streamer_store import (
    AccessDenied,
    AsyncRequest,
    BulkResult,
    RequestStatus,
    StoreError,
    Stores,
    StoreUnavailable,
    TableMissing,
    WorkerRow,
)
from streamer_store.bulk import CHUNK_ITEMS, Bulk, Entry
from streamer_store.errors import InvalidInput, ItemTooLarge
from streamer_store.stores import stores_over
from support import START, ManualClock
from unit.worker.faulty_engine import FaultyEngine, moves_to

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})], ids=["trio"]
    ),
]
IDS = [f"r{number:04}" for number in range(250)]


@pytest.fixture
def engine() -> FaultyEngine:
    return FaultyEngine()


@pytest.fixture
def stores(engine: FaultyEngine, clock: ManualClock, rng: random.Random) -> Stores:
    return stores_over(engine, clock=clock, rng=rng)


def new_bulk() -> Bulk[None]:
    return Bulk("test", lambda _: None, None, rng=random.Random(7))


def requests(*request_ids: str) -> Iterator[AsyncRequest]:
    return (AsyncRequest(action="echo", request_id=request_id) for request_id in request_ids)


async def test_items_are_taken_as_they_are_needed() -> None:
    """Of an endless source only a few chunks are under way, each of 100 items at most."""
    taken = 0
    chunks: list[int] = []

    async def endless() -> AsyncIterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    async def wait_forever(chunk: Sequence[Entry[int]]) -> None:
        chunks.append(len(chunk))
        await anyio.sleep_forever()

    with anyio.move_on_after(10):
        async with aclosing(endless()) as items:  # type: ignore[type-var]
            await new_bulk().run(items, wait_forever)
    assert chunks == [CHUNK_ITEMS] * 6
    assert taken <= 8 * CHUNK_ITEMS + 1


async def test_large_items_make_small_chunks() -> None:
    """A chunk has 2 MB at most, and an item that is larger is a chunk of its own."""
    chunks: list[list[int]] = []

    async def note(chunk: Sequence[Entry[int]]) -> None:
        chunks.append([item for _, item in chunk])

    sizes = [1_000_000, 1_000_000, 1_000_000, 3_000_000, 5]
    await new_bulk().run(sizes, note, size_of=lambda size: size)
    assert sorted(chunks) == sorted([[1_000_000] * 2, [1_000_000], [3_000_000], [5]])


async def test_entries_are_worked_on_25_at_a_time() -> None:
    """All have their turn."""
    running, most, done = 0, 0, 0

    async def work(position: int, item: int) -> None:
        nonlocal running, most, done
        assert position == item
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1
        done += 1

    await new_bulk().each(list(enumerate(range(100))), work)
    assert (most, done) == (25, 100)


@pytest.mark.parametrize("operation", ["get_many", "update"])
async def test_what_is_throttled_is_tried_again(
    engine: FaultyEngine, stores: Stores, operation: str
) -> None:
    """A call that fails five times is repeated, with pauses. Each item has one result."""
    await stores.requests.enqueue_many(requests(*IDS))
    engine.fail(operation, times=5)
    started = anyio.current_time()
    results: list[BulkResult[None]] = []
    summary = await stores.requests.cancel_many(IDS, on_result=results.append)
    assert (summary.done, summary.refused) == (250, 0)
    assert sorted(result.key for result in results) == IDS
    assert anyio.current_time() > started


@pytest.mark.parametrize("action", ["cancel_many", "redrive_many", "delete_many"])
async def test_a_write_whose_answer_was_lost_is_done(
    engine: FaultyEngine, stores: Stores, action: str
) -> None:
    """The write took effect and raised StoreUnavailable: the next try finds it."""
    await stores.requests.enqueue_many(requests(*IDS))
    if action == "redrive_many":
        await stores.requests.cancel_many(IDS)
    engine.fail("update", times=30, lands=True)
    engine.fail("delete", times=30, lands=True)
    options = {"statuses": [RequestStatus.PENDING]} if action == "delete_many" else {}
    summary = await getattr(stores.requests, action)(IDS, **options)
    assert (summary.done, summary.refused) == (250, 0)


@pytest.mark.parametrize(
    ("error", "tries"),
    [(StoreUnavailable("away"), 6), (AccessDenied("no"), 1), (TableMissing("no"), 1)],
    ids=lambda case: type(case).__name__,
)
async def test_an_error_that_concerns_all_items_ends_the_operation(
    engine: FaultyEngine, stores: Stores, error: StoreError, tries: int
) -> None:
    """It is raised as it is. DynamoDB is asked six times if it does not answer."""
    await stores.requests.enqueue_many(requests("a"))
    fault = engine.fail("update", error, times=1000)
    with pytest.raises(type(error)):
        await stores.requests.cancel_many(["a"], on_result=lambda _: None)
    assert 1000 - fault.times == tries
    engine.heal()
    assert (await stores.requests.cancel_many(["a"])).done == 1


async def test_an_error_of_the_source_is_raised(stores: Stores) -> None:
    """What came before it may be done."""

    def broken() -> Iterator[AsyncRequest]:
        yield from requests(*IDS)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await stores.requests.enqueue_many(broken())


async def test_an_error_of_on_result_is_raised(stores: Stores) -> None:
    def fail(result: BulkResult[AsyncRequest]) -> None:
        raise LookupError(result.key)

    with pytest.raises(LookupError, match="r0"):
        await stores.requests.enqueue_many(requests(*IDS), on_result=fail)


async def test_a_cancelled_operation_can_be_repeated(engine: FaultyEngine, stores: Stores) -> None:
    """It leaves some done and some not, and the second call does the others."""
    await stores.requests.enqueue_many(requests(*IDS))
    held = engine.hold("update", times=1000, when=moves_to("CANCELLED"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stores.requests.cancel_many, IDS)
        await held.reached.wait()
        tasks.cancel_scope.cancel()
    engine.heal()
    assert (await stores.requests.cancel_many(IDS)).done == 250


async def test_a_limit_spreads_the_writes(stores: Stores) -> None:
    """A new request takes 4 units: the table, ConnectionIndex, StatusIndex; here without one."""
    started = anyio.current_time()
    await stores.requests.enqueue_many(requests(*IDS), max_write_units=50)
    elapsed = anyio.current_time() - started
    assert elapsed == pytest.approx(250 * 2 / 50, rel=0.1)
    started = anyio.current_time()
    await stores.requests.cancel_many(IDS, max_write_units=50)
    assert anyio.current_time() - started == pytest.approx(250 * 3 / 50, rel=0.1)


@pytest.mark.parametrize("error", [ItemTooLarge("item", "full"), InvalidInput("no key")])
async def test_a_mailbox_that_refuses_does_not_fail_a_cancellation(
    engine: FaultyEngine, stores: Stores, error: StoreError
) -> None:
    """The request is cancelled. Its worker meets that at its next write."""
    await stores.workers.register(WorkerRow(worker_id="w1", started_at=START))
    await stores.requests.enqueue_many(requests("a"))
    page = await stores.requests.entries(RequestStatus.PENDING, limit=1)
    await stores.requests.claim(page.candidates[0], worker_id="w1")
    full = engine.fail("update", error, when=lambda update: update.adds)
    assert (await stores.requests.cancel_many(["a"])).done == 1
    assert full.times == 0
    assert (await stores.requests.get("a")).status is RequestStatus.CANCELLED
