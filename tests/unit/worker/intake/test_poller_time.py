"""The pauses between polls, and claims under cancellation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import anyio
import pytest

from streamer_store import (
    AccessDenied,
    AsyncRequest,
    RequestStatus,
    StoreError,
    StoreUnavailable,
    TableMissing,
)
from streamer_store.stores import stores_over
from streamer_worker.concurrency.periodic import run_every
from streamer_worker.events import ClaimTried, StepFailed
from streamer_worker.intake.poller import PollCounts
from support import ManualClock
from unit.worker.benches import PollBench, drained, enqueue
from unit.worker.faulty_engine import moves_to
from unit.worker.harness import World, virtual_time

pytestmark = pytest.mark.anyio

EMPTY = PollCounts(candidates=0, claimed=0)
WORK = PollCounts(candidates=5, claimed=1, more=True)
ALL = PollCounts(candidates=5, claimed=5)
LOST = PollCounts(candidates=5, claimed=0)


def test_pauses_grow_while_there_is_nothing_to_do(bench: PollBench) -> None:
    """They grow from `min_interval` to `max_interval`, with jitter."""
    steps = [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    for step in steps:
        assert step / 2 <= bench.poller.pause(EMPTY) <= step


def test_a_claim_is_followed_by_the_next_poll_at_once(bench: PollBench) -> None:
    """After it the pauses start at `min_interval` again."""
    for _ in range(10):
        bench.poller.pause(EMPTY)
    assert bench.poller.pause(WORK) == 0
    assert bench.poller.pause(EMPTY) <= 0.05


def test_a_claim_is_followed_at_once_while_the_cursor_moves(bench: PollBench) -> None:
    """The rest of the index may have more."""
    assert bench.poller.pause(replace(ALL, first_pass=True)) == 0


def test_after_the_last_claim_of_the_index_the_pauses_start_again(bench: PollBench) -> None:
    """A second read at once would find nothing: it would cost as much as a read with work."""
    for _ in range(10):
        bench.poller.pause(EMPTY)
    for counts in (ALL, ALL, EMPTY):
        assert 0.025 <= bench.poller.pause(counts) <= 0.05
    assert 0.05 <= bench.poller.pause(EMPTY) <= 0.1


def test_lost_candidates_do_not_reset_the_pauses(bench: PollBench) -> None:
    """Workers that compete for the same few requests back off."""
    assert bench.poller.pause(LOST) > 0
    for _ in range(10):
        bench.poller.pause(LOST)
    assert bench.poller.pause(LOST) >= 0.25


def test_pauses_have_jitter(bench: PollBench, narrow: PollBench) -> None:
    """Two workers do not poll at the same moments."""
    assert bench.poller.pause(EMPTY) != narrow.poller.pause(EMPTY)


@pytest.mark.parametrize("lands", [False, True], ids=["before-it-lands", "after-it-landed"])
async def test_cancellation_does_not_lose_a_claim(
    world: World, bench: PollBench, *, lands: bool
) -> None:
    """A claim that was sent is awaited and handed over, with its slot."""
    ids = await enqueue(world, 3)
    fault = world.engine.hold("update", when=moves_to("PROCESSING"), times=3, lands=lands)
    scope = anyio.CancelScope()

    async def step() -> None:
        with scope:
            await bench.poller.step()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(step)
        await fault.wait_reached()
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        fault.let_go()
    assert bench.slots.used == 3
    assert sorted(bench.handed_over()) == sorted(ids)


async def test_cancellation_before_a_claim_is_sent_changes_nothing(
    world: World, bench: PollBench
) -> None:
    """Every request that is PROCESSING afterwards was handed over, with its slot."""
    ids = await enqueue(world, 5)
    async with anyio.create_task_group() as tasks:
        fault = world.engine.hold("query")
        tasks.start_soon(bench.poller.step)
        await fault.wait_reached()
        tasks.cancel_scope.cancel()
        fault.let_go()
    handed_over = bench.handed_over()
    stored = await world.stores.requests.get_many(ids)
    running = [key for key, request in stored.items() if request.status is RequestStatus.PROCESSING]
    assert sorted(running) == sorted(handed_over)
    assert bench.slots.used == len(handed_over)


@virtual_time
async def test_a_claim_that_never_answers_is_given_up(world: World, bench: PollBench) -> None:
    """After 5 s its slot is free again. Other requests were claimed meanwhile."""
    ids = await enqueue(world, 2)
    world.engine.hold("update", when=lambda update: update.key == ids[0])
    began = anyio.current_time()
    await bench.poller.step()
    assert anyio.current_time() - began == pytest.approx(5)
    assert bench.slots.used == 1
    assert bench.handed_over() == [ids[1]]
    outcomes = {event.request_id: event.outcome for event in world.recorder.of(ClaimTried)}
    assert outcomes == {ids[0]: "error", ids[1]: "won"}


@virtual_time
async def test_tighten_shortens_the_wait_for_claims(world: World, bench: PollBench) -> None:
    """Claims in flight get the time that is left, even if the poller is cancelled."""
    (request_id,) = await enqueue(world, 1)
    fault = world.engine.hold("update", when=lambda update: update.key == request_id)
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.poller.step)
        await fault.wait_reached()
        bench.claimer.tighten(2)
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - began == pytest.approx(2)
    assert bench.slots.used == 0


@virtual_time
@pytest.mark.parametrize("kind", [StoreUnavailable, AccessDenied, TableMissing])
async def test_an_outage_does_not_end_polling(
    world: World, bench: PollBench, kind: type[StoreError]
) -> None:
    """The loop polls again after an outage, or after an index or a permission was missing."""
    ids = await enqueue(world, 1)
    world.engine.fail("query", kind("not now"), times=20)

    async def loop() -> None:
        await run_every(bench.poller.pause, bench.poller.step, name="poll", runtime=world.runtime)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop)
        assignment = await bench.receive.receive()
        tasks.cancel_scope.cancel()
    assert assignment.claim.request_id == ids[0]
    assert len(world.recorder.of(StepFailed)) == 20


@virtual_time
async def test_polling_does_not_pause_while_there_is_work(world: World, narrow: PollBench) -> None:
    """As long as each poll claims something, there is no pause between polls."""
    ids = await enqueue(world, 30)
    began = anyio.current_time()
    claimed: list[str] = []

    async def loop() -> None:
        await run_every(narrow.poller.pause, narrow.poller.step, name="poll", runtime=world.runtime)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop)
        async for assignment in narrow.receive:
            claimed.append(assignment.claim.request_id)
            narrow.slots.release(assignment.slot)
            if len(claimed) == len(ids):
                break
        tasks.cancel_scope.cancel()
    assert anyio.current_time() == began
    assert sorted(claimed) == sorted(ids)
    assert list(drained(narrow.receive)) == []


@virtual_time
async def test_a_queue_of_deferred_retries_is_read_once(world: World) -> None:
    """Five pages of retries that are not due are read once. Then the pauses grow."""
    bench = PollBench(world)
    for _ in range(500):
        claim = await world.claim(max_retries=3)
        await world.stores.requests.retry(claim, timedelta(days=1))
    reads = 0

    async def step() -> PollCounts:
        nonlocal reads
        reads += 1
        return await bench.poller.step()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            partial(
                run_every,
                bench.poller.pause,
                step,
                name="poll",
                runtime=world.runtime,
            )
        )
        await anyio.sleep(60)
        tasks.cancel_scope.cancel()
    bench.close()
    assert 110 <= reads <= 280  # pauses of 0.25 to 0.5 s, and a few short ones


async def test_a_clock_that_steps_back_loses_no_retry(world: World) -> None:
    """A retry is due at the poll and not at the claim: it is claimed when it is due again."""
    clock = ManualClock()
    stores = stores_over(world.engine, clock=clock, rng=world.rng, report=lambda _: None)
    bench = PollBench(replace(world, clock=clock, stores=stores))
    request = await stores.requests.enqueue(AsyncRequest(action="echo"))
    (candidate,) = (await stores.requests.entries(RequestStatus.PENDING, limit=1)).candidates
    await stores.requests.retry(await stores.requests.claim(candidate), timedelta(seconds=1))
    (retry,) = (await stores.requests.entries(RequestStatus.RETRYING, limit=1)).candidates
    clock.advance(0.5)
    assert await bench.claimer.claim(retry, bench.claimer.reserve(retry)) is None
    clock.advance(0.6)
    assert await bench.poll() == [request.request_id]
    bench.close()


def test_pauses_do_not_grow_while_the_cursor_is_on_its_first_pass(bench: PollBench) -> None:
    """It may still find work. After the pass the pauses grow."""
    first_pass = replace(EMPTY, first_pass=True)
    for _ in range(10):
        assert bench.poller.pause(first_pass) <= 0.05
    assert 0.05 <= bench.poller.pause(EMPTY) <= 0.1


@virtual_time
async def test_a_retry_that_is_due_soon_shortens_the_pause_to_half_of_the_interval(
    world: World, bench: PollBench
) -> None:
    """Not further: a worker polls at most twice in `min_interval` for retries."""
    claim = await world.claim()
    await world.stores.requests.retry(claim, timedelta(milliseconds=1), counts=False)
    for _ in range(5):
        bench.poller.pause(EMPTY)
    counts = await bench.poller.step()
    assert bench.poller.pause(counts) == 0.025


@virtual_time
async def test_the_wait_of_a_claim_counts_from_when_it_could_first_run(
    world: World, bench: PollBench
) -> None:
    """That is its creation, or the end of its delay. A clock that is ahead gives 0."""
    retried = await world.claim(created_at=world.clock.now() - timedelta(hours=1))
    await world.stores.requests.retry(retried, timedelta(seconds=2), counts=False)
    ahead = await world.enqueue(created_at=world.clock.now() + timedelta(hours=1))
    new = await world.enqueue(created_at=world.clock.now())
    await anyio.sleep(5)
    await bench.poller.step()
    waited = {event.request_id: event.waited for event in world.recorder.of(ClaimTried)}
    assert waited == {retried.request_id: 3, ahead.request_id: 0, new.request_id: 5}
    assert len(bench.handed_over()) == 3
