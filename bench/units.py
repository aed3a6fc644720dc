"""Units: what DynamoDB charges for the life of a request.

With single writes, because DynamoDB Local reports no capacity for batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from bench.database import fresh_tables
from bench.payloads import payload
from bench.results import Figure, Part, say
from bench.workers import SINGLE_WRITES, open_worker
from capacity import consumed, split
from integration.fast import ended
from streamer_store import AsyncRequest, CallEnded, TryFailed, open_stores

_REQUESTS: Final = 30
_SECONDS_BETWEEN_REPORTS: Final = 1.3
"""Longer than the interval of writes of progress, so that each report is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A kind of request. `at_most`: the goal for its write units."""

    name: str
    payload_bytes: int
    reports: int
    at_most: float | None = None


LIVES: Final = (
    Life(name="0.7 KB", payload_bytes=300, reports=0, at_most=9),
    Life(name="0.7 KB, 5 writes of progress", payload_bytes=300, reports=5, at_most=14),
    Life(name="10 KB", payload_bytes=9_500, reports=0),
    Life(name="10 KB, 5 writes of progress", payload_bytes=9_500, reports=5),
)


async def measure(url: str, folder: Path) -> Part:
    """Run requests of each kind, each kind on a worker of its own, at the same time."""
    found: dict[str, tuple[float, float]] = {}

    async def run(life: Life) -> None:
        found[life.name] = await _units(life, url, folder)

    async with anyio.create_task_group() as tasks:
        for life in LIVES:
            tasks.start_soon(run, life)
    figures = []
    for life in LIVES:
        read, written = found[life.name]
        say(f"units {life.name}: {written:.1f} written, {read:.2f} read")
        figures += [
            Figure(name=life.name, unit="write units", samples=[written], at_most=life.at_most),
            Figure(name=life.name, unit="read units", samples=[read]),
        ]
    return Part(name="units", figures=figures)


async def _units(life: Life, url: str, folder: Path) -> tuple[float, float]:
    """Return the read units and the write units of one request, from enqueue to outcome."""
    put: list[float] = []

    def record(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded) and event.operation == "PutItem":
            put.append(sum(capacity.units for capacity in event.capacity))

    body = payload(life.payload_bytes)
    body |= {"times": life.reports, "pause": _SECONDS_BETWEEN_REPORTS}
    async with (
        fresh_tables(url) as tables,
        open_stores(
            endpoint_url=url, prefix=tables.prefix, observe=record, batch_writes=False
        ) as stores,
        open_worker(folder, tables, **SINGLE_WRITES) as worker,
    ):
        before = consumed(worker.url)
        stored = (
            await stores.requests.enqueue_many(
                AsyncRequest(
                    action="report" if life.reports else "noop", payload=body, connection_id="c1"
                )
                for _ in range(_REQUESTS)
            )
        ).records
        await ended(stores, *(request.request_id for request in stored))
        units = consumed(worker.url) - before
    for table, operation in list(units):
        if table != "requests":
            del units[table, operation]
    read, written = split(units)
    return read / _REQUESTS, (written + sum(put)) / _REQUESTS
