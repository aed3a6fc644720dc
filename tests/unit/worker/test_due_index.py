"""Whole workers with and without DueIndex, beside requests that other releases left."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from streamer_store import Priority
from streamer_store.times import format_time
from streamer_worker import RetryLater, handler
from streamer_worker.events import RequestFinished, RequestStarted
from streamer_worker.handlers.context import Context
from streamer_worker.settings import PollSettings
from unit.worker.faulty_engine import moves_to
from unit.worker.harness import World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
SLOWLY = PollSettings(min_interval=0.5, max_interval=5.0)
BOTH = pytest.mark.parametrize("due_index", [True, False])


def set_index(world: World, *, exists: bool) -> None:
    world.engine.inner.missing_indexes = set() if exists else {"DueIndex"}


async def put_stray(world: World, request_id: str) -> None:
    """Write a RETRYING request without a lane, as an older release does."""
    now = {"S": format_time(world.clock.now())}
    await world.put_raw(
        RequestID={"S": request_id},
        Status={"S": "RETRYING"},
        CreatedAt=now,
        RetryAfter=now,
        Action={"S": "echo"},
        Version={"S": f"version of {request_id}"},
    )


@BOTH
async def test_requests_of_every_priority_run(world: World, *, due_index: bool) -> None:
    """Those of low priority are SCHEDULED, also in a table without the index."""
    set_index(world, exists=due_index)
    for priority in (None, *Priority):
        await world.enqueue(priority=priority)
    async with running(world.app([echo], poll=SLOWLY)):
        finished = await world.recorder.wait_for(RequestFinished, 3)
    assert [event.outcome for event in finished] == ["completed"] * 3


@BOTH
async def test_a_request_without_a_lane_is_run(world: World, *, due_index: bool) -> None:
    """With the index the sweep of the leader finds it, and the next one within an hour."""
    set_index(world, exists=due_index)
    await put_stray(world, "before")
    async with running(world.app([echo], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished)
        began = anyio.current_time()
        await put_stray(world, "later")
        await world.recorder.wait_for(RequestFinished, 2, within=3700)
        assert anyio.current_time() - began < 3620


async def test_the_index_may_be_added_while_workers_run(world: World) -> None:
    """Retries that were written before are in it, and those without a lane are found."""
    set_index(world, exists=False)

    @handler("later")
    async def later(_payload: dict[str, Any], ctx: Context) -> str:
        if len(world.recorder.of(RequestStarted)) == 1:
            raise RetryLater(after=1000)
        return ctx.request_id

    await world.enqueue("later")
    async with running(world.app([later, echo], poll=SLOWLY)):
        await world.recorder.wait_for(RequestStarted)
        set_index(world, exists=True)
        await anyio.sleep(400)
        await put_stray(world, "stray")
        (_, finished, *_) = await world.recorder.wait_for(RequestFinished, 2, within=1100)
        assert finished.outcome == "completed"
        assert anyio.current_time() == pytest.approx(1000, abs=2)


async def test_an_unanswered_claim_is_released_by_its_priority(world: World) -> None:
    """Its request is SCHEDULED again, and not among the PENDING ones."""
    await world.enqueue(priority=Priority.LOW)
    world.engine.fail("update", when=moves_to("PROCESSING"), lands=True)
    fault = world.engine.hold("update", when=moves_to("SCHEDULED"))
    async with running(world.app([echo], poll=SLOWLY)):
        await fault.wait_reached()
        fault.let_go()
        await world.recorder.wait_for(RequestFinished)
