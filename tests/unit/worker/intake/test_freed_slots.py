"""A slot that is freed is filled at once, whatever limit held the next request back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_store.engine import Update
from streamer_worker import Context, handler
from streamer_worker.events import RequestFinished, RequestStarted
from streamer_worker.intake.poller import PollCounts
from streamer_worker.settings import PollSettings
from unit.worker.benches import MIN_AGE, PollBench, enqueue
from unit.worker.faulty_engine import moves_to
from unit.worker.harness import Waiting, World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]

TIMES = 20
SECONDS = 0.1


async def work(_payload: dict[str, Any], _ctx: Context) -> None:
    await anyio.sleep(SECONDS)


def is_outcome(update: Update) -> bool:
    return moves_to("COMPLETED")(update)


@pytest.mark.parametrize(
    ("most", "settings"),
    [(1, {}), (None, {"tenant_concurrency": 1}), (None, {"concurrency": 1})],
    ids=["max_concurrency", "tenant_concurrency", "concurrency"],
)
async def test_the_next_request_under_a_limit_starts_at_once(
    most: int | None, settings: dict[str, Any], world: World
) -> None:
    """Twenty requests of 0.1 s, one at a time and with the default pauses, take two seconds."""
    await enqueue(world, TIMES, action="work", tenant_id="t")
    limited = handler("work", max_concurrency=most)(work)
    began = anyio.current_time()
    async with running(world.app([limited], poll=PollSettings(), **settings)):
        await world.recorder.wait_for(RequestFinished, TIMES)
        assert anyio.current_time() - began < TIMES * SECONDS + 0.1


async def test_a_freed_slot_of_another_action_wakes_no_poll(world: World) -> None:
    """The pauses stay as long as they are while nothing that waits could use the slot."""
    busy = Waiting("busy")
    bench = PollBench(world, handler("busy", max_concurrency=1)(busy.handler.function), echo)
    await enqueue(world, 3, action="busy")
    await bench.poller.step()
    other = bench.slots.take("other", action="echo")
    assert await bench.poller.step() == PollCounts(candidates=2, claimed=0)
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.poller.sleep, 10)
        await anyio.wait_all_tasks_blocked()
        bench.slots.release(other)
    assert anyio.current_time() - began == pytest.approx(10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.poller.sleep, 10)
        await anyio.wait_all_tasks_blocked()
        (assignment,) = bench.assignments()
        bench.slots.vacate(assignment.slot)
    assert anyio.current_time() - began == pytest.approx(10)
    assert await bench.poller.step() == PollCounts(candidates=2, claimed=1, bounded=True)
    bench.close()


async def test_a_slot_that_is_freed_while_claims_have_no_answer_is_filled(world: World) -> None:
    """A slow claim does not delay others."""
    bench = PollBench(world, handler("scarce", max_concurrency=1)(echo.function), echo)
    used = bench.slots.take("used", action="scarce")
    await world.enqueue("scarce")
    await world.enqueue()
    fault = world.engine.hold("update", when=moves_to("PROCESSING"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.poller.step)
        await fault.wait_reached()
        bench.slots.release(used)
        await anyio.wait_all_tasks_blocked()
        assert len(bench.assignments()) == 1  # the claim of the other action has no answer yet
        fault.let_go()
    assert len(bench.assignments()) == 1
    bench.close()


async def test_the_next_suspect_starts_at_once(world: World) -> None:
    """Its probation is free when the one before is settled."""
    bench = PollBench(world)
    await anyio.sleep(MIN_AGE)
    for name in ("s1", "s2"):
        await world.enqueue(request_id=name, rescues=2)
    await bench.poller.step()
    (assignment,) = bench.assignments()
    assert await bench.poller.step() == PollCounts(candidates=1, claimed=0)
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.poller.sleep, 10)
        await anyio.wait_all_tasks_blocked()
        bench.slots.vacate(assignment.slot)
        bench.slots.settle(assignment.slot)
    assert anyio.current_time() == began
    assert await bench.poller.step() == PollCounts(candidates=1, claimed=1)
    bench.close()


async def test_the_next_claim_does_not_wait_for_the_outcome(world: World) -> None:
    """So both can be sent in one call. The outcome is still held when the next handler runs."""
    await enqueue(world, 2)
    fault = world.engine.hold("update", when=is_outcome)
    async with running(world.app([echo], concurrency=1)):
        await fault.wait_reached()
        await world.recorder.wait_for(RequestStarted, 2)
        await world.recorder.wait_for(RequestFinished)
        fault.let_go()
        await world.recorder.wait_for(RequestFinished, 2)


async def test_never_more_handlers_run_than_slots_while_outcomes_are_written(world: World) -> None:
    """Outcomes take a second, and handlers too."""
    now: list[int] = []
    most: list[int] = []

    @handler("work")
    async def counted(_payload: dict[str, Any], _ctx: Context) -> None:
        now.append(1)
        most.append(len(now))
        await anyio.sleep(1)
        now.pop()

    await enqueue(world, 12, action="work")
    engine = world.engine.inner
    write = engine.update

    async def slow(update: Update) -> Any:
        if is_outcome(update):
            await anyio.sleep(1)
        return await write(update)

    engine.update = slow  # type: ignore[method-assign]
    began = anyio.current_time()
    async with running(world.app([counted], concurrency=3)):
        await world.recorder.wait_for(RequestFinished, 12)
        assert anyio.current_time() - began < 4 + 1 + 0.5
    assert max(most) == 3


async def test_in_an_outage_of_outcomes_claims_stop(world: World) -> None:
    """The worker then holds twice as many requests as it has slots. None is lost."""
    ids = await enqueue(world, 9)
    fault = world.engine.hold("update", when=is_outcome, times=9)
    async with running(world.app([echo], concurrency=2)):
        await world.recorder.wait_for(RequestStarted, 4)
        await anyio.sleep(60)
        assert len(world.recorder.of(RequestStarted)) == 4
        fault.let_go()
        await world.recorder.wait_for(RequestFinished, 9)
    stored = await world.stores.requests.get_many(ids)
    assert {request.status for request in stored.values()} == {RequestStatus.COMPLETED}


async def test_a_drain_waits_for_outcomes_whose_slots_are_used_again(world: World) -> None:
    """Proves DRAIN-2."""
    waiting = Waiting("wait")
    now = world.clock.now()
    first = await world.enqueue(created_at=now - timedelta(seconds=2))
    second = await world.enqueue("wait", created_at=now)
    fault = world.engine.hold("update", when=is_outcome)
    app = world.app([echo, waiting.handler], concurrency=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await fault.wait_reached()
        await world.recorder.wait_for(RequestStarted, 2)
        app.stop()
        waiting.go.set()
        await anyio.sleep(5)
        assert await world.stores.workers.list() != []
        fault.let_go()
    assert await world.stores.workers.list() == []
    for request in (first, second):
        assert (await world.get(request)).status is RequestStatus.COMPLETED
