"""The cost of progress for a handler that reports in its innermost loop."""

from __future__ import annotations

import json
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
async def test_a_report_costs_as_much_as_a_few_lines_of_json(definition: Any) -> None:
    """It costs CPU time only: there is at most one write per second, and the last report is
    stored. The measure is taken in the same moment, since CPUs differ, and share their cores.
    """
    measure = -time.process_time()
    for number in range(CALLS):
        json.dumps({"fraction": number / CALLS, "message": "Counting"})
    measure += time.process_time()
    world = make_world()
    claim = await world.claim(definition.action)
    world.engine.calls.clear()
    began, cpu = time.monotonic(), time.process_time()
    assert await DispatchBench(world, definition).run(claim) == "completed"
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    writes = world.engine.calls.count("update")
    text = (
        f"{cpu:.2f} s of CPU, {cpu / measure:.1f} times json.dumps, {took:.2f} s, {writes} writes"
    )
    print(f"{definition.action}: {text}")  # noqa: T201
    assert (await world.get(claim)).progress == 1
    assert writes <= took + 2  # the first report is written at once, and the outcome too
    # Details are validated and copied each time.
    assert cpu / measure < (5 if definition is not detailed_loop else 8)
