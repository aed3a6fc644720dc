"""The cost of progress for a handler that reports in its innermost loop."""

from __future__ import annotations

import time
from typing import Any

import pytest

from streamer_worker import Context, SyncContext, handler
from unit.worker.benches import DispatchBench
from unit.worker.harness import make_world

pytestmark = pytest.mark.anyio

CALLS = 100_000


@handler("loop")
async def loop(_payload: dict[str, Any], ctx: Context) -> None:
    for number in range(CALLS):
        await ctx.progress(number, "Counting", total=CALLS)


@handler("thread_loop")
def thread_loop(_payload: dict[str, Any], ctx: SyncContext) -> None:
    for number in range(CALLS):
        ctx.progress(number, "Counting", total=CALLS)


@handler("detailed_loop")
async def detailed_loop(_payload: dict[str, Any], ctx: Context) -> None:
    for number in range(CALLS):
        await ctx.progress(number, "Counting", total=CALLS, details={"number": number})


@pytest.mark.parametrize(
    "definition", [loop, thread_loop, detailed_loop], ids=lambda definition: definition.action
)
async def test_a_hundred_thousand_reports_cost_less_than_a_second(definition: Any) -> None:
    """They cost CPU time only: there is at most one write per second, and the last report is
    stored.
    """
    world = make_world()
    claim = await world.claim(definition.action)
    world.engine.calls.clear()
    began, cpu = time.monotonic(), time.process_time()
    assert await DispatchBench(world, definition).run(claim) == "completed"
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    writes = world.engine.calls.count("update")
    print(f"{definition.action}: {cpu:.2f} s of CPU, {took:.2f} s, {writes} writes")  # noqa: T201
    assert (await world.get(claim)).progress == 1
    assert writes <= took + 2  # the first report is written at once, and the outcome too
    limit = (
        1.0 if definition is not detailed_loop else 3.0
    )  # details are validated and copied each time
    assert cpu < limit
