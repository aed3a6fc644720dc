"""Idle: what a worker without work costs, while requests wait for later. It is the leader."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from bench.database import fresh_tables
from bench.results import RATIO, Figure, Part, say
from bench.workers import SINGLE_WRITES, Worker, open_worker
from capacity import consumed, split

_WARM_UP_SECONDS: Final = 5.0
_EMPTY_QUERY: Final = 0.5
"""The read units of a Query that finds nothing. DynamoDB charges them, and DynamoDB Local
reports none."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Read and write units per hour, milliseconds of CPU per second, and calls per second."""

    read: float
    written: float
    cpu: float
    calls: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """waiting: how many requests wait for tomorrow, for each worker. seconds: how long to watch."""

    waiting: tuple[int, ...]
    seconds: float


async def measure(url: str, folder: Path, plan: Plan) -> Part:
    """Watch idle workers at the same time, each with tables of its own."""
    found: dict[int, Idle] = {}

    async def run(waiting: int) -> None:
        found[waiting] = await _watch(waiting, url, folder, plan.seconds)

    async with anyio.create_task_group() as tasks:
        for waiting in plan.waiting:
            tasks.start_soon(run, waiting)
    figures = []
    first, last = plan.waiting[0], plan.waiting[-1]
    none, most = found[first], found[last]
    for name, ratio in (
        ("read units", most.read / none.read),
        ("write units", most.written / none.written),
        ("CPU", most.cpu / none.cpu),
    ):
        title = f"{name}, {last:,} waiting for later / {first}"
        figures.append(Figure(name=title, unit=RATIO, samples=[ratio], at_most=1.1))
    for waiting in plan.waiting:
        idle = found[waiting]
        name = f"{waiting:,} waiting for later"
        say(f"idle, {name}: {idle.read:.0f} read units an hour, {idle.cpu:.1f} ms CPU a second")
        figures += [
            Figure(name=name, unit="read units/h", samples=[idle.read]),
            Figure(name=name, unit="write units/h", samples=[idle.written]),
            Figure(name=name, unit="CPU ms/s", samples=[idle.cpu]),
            Figure(name=name, unit="calls/s", samples=[idle.calls]),
        ]
    return Part(name="idle", figures=figures)


async def _watch(waiting: int, url: str, folder: Path, seconds: float) -> Idle:
    async with fresh_tables(url) as tables:
        await tables.wait_until_tomorrow(waiting, action="noop")
        async with open_worker(folder, tables, **SINGLE_WRITES) as worker:
            await anyio.sleep(_WARM_UP_SECONDS)
            units, queries, calls = consumed(worker.url), _calls(worker, "Query"), _calls(worker)
            cpu, began = worker.process.cpu(), time.monotonic()
            await anyio.sleep(seconds)
            cpu, elapsed = worker.process.cpu() - cpu, time.monotonic() - began
            queries = _calls(worker, "Query") - queries
            calls = _calls(worker) - calls
            read, written = split(consumed(worker.url) - units)
    hour = 3600 / elapsed
    return Idle(
        read=(read + queries * _EMPTY_QUERY) * hour,
        written=written * hour,
        cpu=1000 * cpu / elapsed,
        calls=calls / elapsed,
    )


def _calls(worker: Worker, operation: str | None = None) -> float:
    labels = {} if operation is None else {"operation": operation}
    return worker.metric("dynamodb_request_duration_seconds_count", **labels)
