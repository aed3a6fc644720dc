"""Progress in a tight loop, and a checkpoint of a lost claim."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import anyio
import pytest

from streamer_store import ClaimLost
from streamer_worker import Context, handler
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.handlers.worker_channel import ProgressUpdate
from streamer_worker.testing import start_handler
from support import START
from unit.worker.benches import DispatchBench
from unit.worker.harness import World, virtual_time

pytestmark = pytest.mark.anyio


class SlowClock:
    """A clock that advances by this much with each reading."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._now = 0.0

    def now(self) -> datetime:
        return START

    def steady(self) -> float:
        self._now += self._step
        return self._now


class OtherTask:
    """A task that counts how often it runs."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.runs += 1


@asynccontextmanager
async def writer_on(world: World, clock: Any) -> AsyncIterator[tuple[ProgressWriter, OtherTask]]:
    other = OtherTask()
    claim = await world.claim()
    async with anyio.create_task_group() as tasks:
        writer = ProgressWriter(
            requests=world.stores.requests,
            claim=claim,
            on_lost=lambda _: None,
            push=lambda _: None,
            tasks=tasks,
            runtime=replace(world.runtime, clock=clock),
        )
        tasks.start_soon(other.run)
        yield writer, other
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("step", "least"), [(0.0, 15), (0.002, 1500)], ids=["by calls", "by time"])
async def test_a_tight_loop_of_reports_lets_others_run(
    step: float, least: int, world: World
) -> None:
    """The loop yields every hundred calls, and with a call after a millisecond."""
    async with writer_on(world, SlowClock(step)) as (writer, other):
        for number in range(2000):
            await writer.progress(ProgressUpdate(number / 2000))
        assert other.runs >= least


async def test_most_reports_do_not_yield(world: World) -> None:
    """A fast loop of a thousand reports is not slowed down by the event loop."""
    async with writer_on(world, SlowClock(0.0)) as (writer, other):
        for number in range(1000):
            await writer.progress(ProgressUpdate(number / 1000))
        assert other.runs <= 25


@virtual_time
async def test_a_tight_loop_of_reports_can_be_cancelled() -> None:
    """Nothing else in the loop waits."""
    rounds = 0

    @handler("busy")
    async def busy(_payload: dict[str, Any], ctx: Context) -> None:
        nonlocal rounds
        for rounds in range(100_000):  # noqa: B007  counted
            await ctx.progress(0.5)

    async with start_handler(busy) as run:
        await run.until(lambda run: run.progress != [])
        run.release()
    assert run.status == "released"
    assert rounds < 1000


async def test_a_lost_checkpoint_lets_the_cancellation_arrive_first(world: World) -> None:
    """A handler that catches errors is cancelled and sees no error. A shielded one sees it."""
    seen: list[str] = []

    @handler("work")
    async def work(payload: dict[str, Any], ctx: Context) -> None:
        await world.stores.requests.delete(ctx.request_id)
        try:
            with anyio.CancelScope(shield=payload["shield"]):
                await ctx.checkpoint(1)
        except ClaimLost:
            seen.append("lost")
        except anyio.get_cancelled_exc_class():
            seen.append("cancelled")
            raise

    for shield in (False, True):
        claim = await world.claim("work", payload={"shield": shield})
        assert await DispatchBench(world, work).run(claim) == "claim_lost"
    assert seen == ["cancelled", "lost"]
