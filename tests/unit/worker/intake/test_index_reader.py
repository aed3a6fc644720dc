"""Reading StatusIndex: its front, and page by page the rest."""

from __future__ import annotations

import pytest

from streamer_worker.intake.index_reader import MAX_PAGE_SIZE, IndexReader
from support import ManualClock
from unit.worker.benches import enqueue
from unit.worker.harness import World

pytestmark = pytest.mark.anyio

COUNT = 2 * MAX_PAGE_SIZE + 50


class Bench:
    """An index reader over 2,050 waiting requests, on a manual clock."""

    def __init__(self, world: World, requests: list[str]) -> None:
        world.engine.inner._page_items = 5000  # about 1 MB, the most that DynamoDB returns
        self.clock = ManualClock()
        self.requests = requests
        self.reader = IndexReader(requests=world.stores.requests, clock=self.clock)

    async def read(self, page_size: int = 10, *, seconds: float = 1.0) -> list[int]:
        """Read once; return the age ranks of the requests, 0 for the oldest.

        Those at the end, which are read once a second, are kept in `newest`.
        """
        self.clock.advance(seconds)
        ranks = {request_id: rank for rank, request_id in enumerate(self.requests)}
        read = [ranks[entry.request_id] for entry in await self.reader.read(page_size)]
        end = read.index(COUNT - 1) if COUNT - 1 in read else len(read)
        is_newest = read[end:] == list(range(COUNT - 1, COUNT - 1 - page_size, -1))
        self.newest = read[end:] if is_newest else []
        return read[:end] if is_newest else read


@pytest.fixture
async def bench(world: World) -> Bench:
    return Bench(world, await enqueue(world, COUNT))


async def test_each_read_returns_the_front_and_the_page_at_the_cursor(bench: Bench) -> None:
    """The cursor starts behind the first page, and starts again when it has met the end."""
    front = list(range(10))
    assert await bench.read() == [*front, *range(10, 10 + MAX_PAGE_SIZE)]
    assert await bench.read() == [*front, *range(10 + MAX_PAGE_SIZE, 10 + 2 * MAX_PAGE_SIZE)]
    assert await bench.read() == [*front, *range(10 + 2 * MAX_PAGE_SIZE, COUNT)]
    assert (await bench.read())[10] == 10


async def test_the_page_at_the_end_is_read_once_a_second(bench: Bench) -> None:
    """So what is new is found, however many requests that cannot run are before it."""
    await bench.read()
    assert bench.newest == list(range(COUNT - 1, COUNT - 11, -1))
    await bench.read(seconds=0.5)
    assert bench.newest == []
    await bench.read(seconds=0.5)
    await bench.read(seconds=1)
    assert len(bench.newest) == 10


async def test_the_first_pass_ends_at_the_end_of_the_index(bench: Bench) -> None:
    """A claim starts another one."""
    for expected in (True, True, False, False):
        await bench.read()
        assert bench.reader.on_polled(claimed=0) is expected
    assert bench.reader.on_polled(claimed=1)
    await bench.read()
    assert bench.reader.on_polled(claimed=0)


async def test_pages_are_smaller_while_there_is_work(bench: Bench) -> None:
    """After a complete pass they cover 1,000 entries a second, and at least a first page."""
    for _ in range(3):
        await bench.read()
        bench.reader.on_polled(claimed=1)
    assert len(await bench.read(seconds=0.25)) == 10 + 250
    assert len(await bench.read(seconds=0.001)) == 10 + 10
    assert len(await bench.read(seconds=60)) == 10 + MAX_PAGE_SIZE


async def test_pages_are_largest_after_a_pass_without_a_claim(bench: Bench) -> None:
    """Polls are rare then."""
    for _ in range(3):
        await bench.read()
        bench.reader.on_polled(claimed=0)
    assert len(await bench.read(seconds=0.001)) == 10 + MAX_PAGE_SIZE


async def test_an_index_of_one_page_has_no_cursor(world: World) -> None:
    """So there is no pass to complete."""
    bench = Bench(world, await enqueue(world, 3))
    assert await bench.read() == [0, 1, 2]
    assert not bench.reader.on_polled(claimed=0)
