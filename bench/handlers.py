"""The handlers that the workers of the benchmarks run."""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Final

import anyio
import anyio.lowlevel

from bench.counter import VARIABLE, Counter
from bench.payloads import RESULT
from streamer_worker import Context, handler

NAMES: Final = ("noop", "stamp", "report", "wait", "gather", "fail_big")
"""The names of the handlers in this module, which are also their actions."""
_started = Counter.of_this_process() if VARIABLE in os.environ else None


@handler("noop")
async def noop(_payload: dict[str, Any], _ctx: Context) -> dict[str, Any]:
    """Count the request, and return a small result."""
    if _started is not None:
        _started.add()
    return RESULT


@handler("stamp")
async def stamp(payload: dict[str, Any], _ctx: Context) -> dict[str, Any]:
    """Store the time of the start at `position`."""
    if _started is not None:
        _started.stamp(payload["position"])
    return RESULT


@handler("report")
async def report(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Report progress `times` times, with pauses of `pause` seconds."""
    for number in range(payload["times"]):
        await ctx.progress((number + 1) / (payload["times"] + 1), f"step {number + 1}")
        await anyio.sleep(payload["pause"])
    return RESULT


@handler("wait")
async def wait(payload: dict[str, Any], _ctx: Context) -> dict[str, Any]:
    """Count the request, and sleep."""
    if _started is not None:
        _started.add()
    await anyio.sleep(payload["seconds"])
    return RESULT


@handler("gather")
async def gather(payload: dict[str, Any], _ctx: Context) -> dict[str, Any]:
    """Return when this process has started `all` requests."""
    if _started is not None:
        _started.add()
        if _started.value >= payload["all"]:
            _all_started().set()
        await _all_started().wait()
    return RESULT


@cache
def _all_started() -> anyio.Event:
    return anyio.Event()


@handler("fail_big")
async def fail_big(payload: dict[str, Any], _ctx: Context) -> None:
    """Fail with `bytes` bytes in a local variable."""
    local = bytearray(payload["bytes"])
    for page in range(0, len(local), 4096):  # memory counts once it is written
        local[page] = 1
    await anyio.lowlevel.checkpoint()
    raise ValueError(f"failed with {len(local)} bytes in its frame")
