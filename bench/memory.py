"""Memory: the peak of the resident memory of a worker, in MB (10^6 bytes)."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

import anyio

from bench.database import Tables, fresh_tables
from bench.payloads import payload
from bench.results import Figure, Part, say
from bench.workers import open_worker
from dynamodb_local import dynamodb_local
from streamer_store import RequestStatus

_RUNNING: Final = 1_000
_FAILURES: Final = 150
_FAILURE_BYTES: Final = 5_000_000
_IDLE_SECONDS: Final = 5.0
_PATIENCE: Final = 300.0
_REQUESTS_PER_SECOND: Final = 50.0


async def measure(url: str, folder: Path, many: int) -> Part:
    """Measure three workers at the same time, then one alone that drains `many` requests."""
    peaks: dict[str, float] = {}

    async def add(name: str, measured: Awaitable[float]) -> None:
        peaks[name] = await measured

    failing = payload(300) | {"bytes": _FAILURE_BYTES}
    failures = _after(_FAILURES, "fail_big", failing, url, folder, concurrency="8")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(add, "idle", _idle(url, folder))
        tasks.start_soon(add, f"{_RUNNING:,} running", _running(url, folder))
        tasks.start_soon(add, f"{_FAILURES} failures with 5 MB of locals", failures)
    if many:
        # Of its own: after the other parts, the heap of DynamoDB Local is full before the end.
        with dynamodb_local() as fresh:
            await add(f"after {many:,} requests", _after(many, "noop", payload(300), fresh, folder))
    goals = {
        "idle": 100,
        f"{_RUNNING:,} running": 160,
        f"{_FAILURES} failures with 5 MB of locals": 160,
        f"after {many:,} requests": None,
    }
    figures = [
        Figure(name=name, unit="MB", samples=[peaks[name]], at_most=goal)
        for name, goal in goals.items()
        if name in peaks
    ]
    for figure in figures:
        say(f"peak RSS, {figure.name}: {figure.value:.0f} MB")
    return Part(name="peak RSS", figures=figures)


async def _idle(url: str, folder: Path) -> float:
    async with fresh_tables(url) as tables, open_worker(folder, tables) as worker:
        await anyio.sleep(_IDLE_SECONDS)
        return worker.process.peak_rss()


async def _running(url: str, folder: Path) -> float:
    """Return the peak when all slots have run a handler at the same time."""
    async with fresh_tables(url) as tables:
        await tables.enqueue(_RUNNING, action="gather", payload=payload(300) | {"all": _RUNNING})
        async with open_worker(folder, tables, concurrency=str(_RUNNING)) as worker:
            await _ended(tables, RequestStatus.COMPLETED, _RUNNING)
            return worker.process.peak_rss()


async def _after(
    number: int, action: str, body: dict[str, Any], url: str, folder: Path, **settings: str
) -> float:
    """Return the peak when so many requests of an action have ended."""
    status = RequestStatus.FAILED if action == "fail_big" else RequestStatus.COMPLETED
    async with fresh_tables(url) as tables:
        await tables.enqueue(number, action=action, payload=body)
        async with open_worker(folder, tables, **settings) as worker:
            await _ended(tables, status, number)
            return worker.process.peak_rss()


async def _ended(tables: Tables, status: RequestStatus, number: int) -> None:
    """Wait until so many requests have this status."""
    with anyio.fail_after(_PATIENCE + number / _REQUESTS_PER_SECOND):
        while await tables.count(status) < number:  # noqa: ASYNC110  nothing announces it
            # Counting reads all of them.
            await anyio.sleep(max(0.2, number / 20_000))
