"""In which order a worker claims requests of different priorities."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest, Priority, RequestStatus
from streamer_worker import RetryLater, handler
from streamer_worker.events import RequestFinished
from streamer_worker.handlers.context import Context
from streamer_worker.settings import PollSettings
from unit.worker.benches import PollBench, enqueue
from unit.worker.harness import World, running, virtual_time
from unit.worker.intake.test_poller_fleet import fleet, member

pytestmark = [pytest.mark.anyio, virtual_time]
PATIENCE = 3600.0


@pytest.fixture
async def small(world: World) -> AsyncIterator[PollBench]:
    """A poller with two slots."""
    bench = PollBench(world, slots=2)
    yield bench
    bench.close()


async def low(world: World, number: int, **fields: Any) -> list[str]:
    return await enqueue(world, number, priority=Priority.LOW, **fields)


async def high(world: World, request_id: str = "high", **fields: Any) -> None:
    await world.enqueue(priority=Priority.HIGH, request_id=request_id, **fields)


async def test_a_high_request_goes_before_a_backlog(world: World, small: PollBench) -> None:
    """Also one that arrives after the page was read, within a fifth of a second."""
    await enqueue(world, 50)
    await high(world)
    assert "high" in await small.poll()
    await small.poll()
    await high(world, "late")
    await anyio.sleep(0.2)
    assert "late" in await small.poll()


async def test_a_high_request_of_a_busy_home_is_taken_by_another(
    world: World, small: PollBench
) -> None:
    """After a quarter of `steal_delay`, although the other worker has a backlog of its own."""
    small.fleet = fleet(member("other"))
    name = next(
        f"high-{number}"
        for number in range(100)
        if not small.fleet.is_home(f"high-{number}", "echo")
    )
    await enqueue(world, 200)
    await small.poll()
    await high(world, name)
    began = anyio.current_time()
    claimed: list[str] = []
    while name not in claimed:
        claimed = await small.poll()
        await anyio.sleep(0.05)
    assert 0.15 <= anyio.current_time() - began <= 0.6


async def test_low_requests_wait_for_all_others(world: World, small: PollBench) -> None:
    """They are older, and go when nothing else is left."""
    waiting = await low(world, 5)
    normal = await enqueue(world, 7)
    order: list[str] = []
    while len(order) < 12:
        order += await small.poll()
    assert set(order[:7]) == set(normal)
    assert set(order[7:]) == set(waiting)


async def test_a_normal_request_does_not_wait_for_a_page_of_low_ones(
    world: World, small: PollBench
) -> None:
    """It is seen within a fifth of a second, while low ones of the page are left."""
    await low(world, 50)
    assert len(await small.poll()) == 2
    request = await world.enqueue()
    await anyio.sleep(0.2)
    assert request.request_id in await small.poll()


async def test_a_low_request_is_not_left_for_ever(world: World, small: PollBench) -> None:
    """After `low_priority_patience` it counts as normal: the oldest goes first."""
    (waiting,) = await low(world, 1)
    await anyio.sleep(PATIENCE)
    await enqueue(world, 100)
    claimed: list[str] = []
    while waiting not in claimed:
        claimed += await small.poll()
    assert len(claimed) <= 4


async def test_a_retry_keeps_its_priority(world: World) -> None:
    """A high one goes before the backlog again, and a low one after it."""
    started: list[str] = []
    failed: set[str] = set()
    both_failed = anyio.Event()

    @handler("once")
    async def once(_payload: dict[str, Any], ctx: Context) -> None:
        started.append(ctx.request_id)
        if ctx.request_id in {"high", "low"} - failed:
            failed.add(ctx.request_id)
            if len(failed) == 2:
                both_failed.set()
            raise RetryLater(after=1)
        await anyio.sleep(0.5)

    queue = world.stores.requests
    for name in Priority:
        await queue.enqueue(AsyncRequest(action="once", request_id=name, priority=name))
    async with running(world.app([once], concurrency=1)):
        await both_failed.wait()
        for number in range(6):
            await queue.enqueue(AsyncRequest(action="once", request_id=f"r{number}"))
        await world.recorder.wait_for(RequestFinished, 10, within=60)
    assert started[:2] == ["high", "low"]
    assert started.index("high", 1) <= 6
    assert started[-1] == "low"


async def test_requests_of_an_action_that_cannot_run_hide_no_others(
    world: World,
) -> None:
    """However many are due before them, what becomes due now starts within two seconds."""
    release = anyio.Event()
    started: dict[str, Any] = {}

    @handler("held", max_concurrency=1)
    async def held(_payload: dict[str, Any], _ctx: Context) -> None:
        await release.wait()

    @handler("free")
    async def free(_payload: dict[str, Any], ctx: Context) -> None:
        started[ctx.request_id] = world.clock.now()

    world.engine.inner._page_items = 5000  # about 1 MB, the most that DynamoDB returns
    queue = world.stores.requests
    soon = world.clock.now() + timedelta(seconds=1)
    for number in range(3000):
        await queue.enqueue(
            AsyncRequest(action="held", request_id=f"held-{number}", retry_after=soon)
        )
    poll = PollSettings()  # the intervals of a worker, not those of most tests
    async with running(world.app([held, free], poll=poll)):
        await anyio.sleep(8)
        stored = await queue.enqueue(
            AsyncRequest(action="free", request_id="free"), delay=timedelta(seconds=3)
        )
        pending = await queue.enqueue(AsyncRequest(action="free", request_id="pending"))
        await anyio.sleep(6)
        release.set()
    assert started["free"] - stored.retry_after <= timedelta(seconds=2)
    assert started["pending"] - pending.created_at <= timedelta(seconds=2)
    assert (await queue.get("held-2999")).status is RequestStatus.SCHEDULED


async def test_without_due_index_low_requests_run_as_normal_ones(
    world: World, small: PollBench
) -> None:
    """StatusIndex does not show the priority."""
    world.engine.inner.missing_indexes = {"DueIndex"}
    waiting = await low(world, 1)
    assert await small.poll() == waiting
