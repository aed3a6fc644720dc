"""What priorities cost, and how soon requests start beside a backlog, on DynamoDB Local.

`pytest -s tests/costs/test_priority_cost.py` prints the figures of docs/scheduling.md.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import anyio
import pytest

from capacity import consumed, split
from costs.test_run_times_cost import worker_settings
from integration.fast import ended, slowness
from plugins import plugin
from processes import PATIENCE, Process
from streamer_store import (
    AsyncRequest,
    CallEnded,
    Pause,
    PauseKind,
    Priority,
    RequestStatus,
    Stores,
    SystemClock,
    TryFailed,
    open_stores,
)
from streamer_worker.fleet.view import FleetView
from support import unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]
CODE = """
    import asyncio
    from streamer_worker import handler

    @handler("work")
    async def work(payload, ctx):
        await asyncio.sleep(payload.get("seconds", 0))

    @handler("held", max_concurrency=1)
    async def held(payload, ctx):
        await asyncio.sleep(600)
"""
ENTRY_POINTS = "work = cost:work\nheld = cost:held"
BACKLOG = 20_000


def _work(number: int, seconds: float = 0, **fields: object) -> list[AsyncRequest]:
    request = AsyncRequest(action="work", payload={"seconds": seconds}, connection_id="c1")
    return [replace(request, **fields) for _ in range(number)]  # type: ignore[arg-type]


async def _starts(stores: Stores, ids: Sequence[str]) -> list[float]:
    """Wait until all are COMPLETED. Return the seconds that each waited for its start, sorted."""
    await ended(stores, *ids)
    requests = (await stores.requests.get_many(list(ids))).values()
    return sorted(
        (request.processing_started - (request.retry_after or request.created_at)).total_seconds()  # type: ignore[operator]
        for request in requests
    )


def _homed(worker: str, view: FleetView) -> Iterator[str]:
    """Yield ids of requests whose home is the worker."""
    ids = (f"high-{number}" for number in count())
    seen_by_it = replace(view, worker_id=worker)
    return (name for name in ids if seen_by_it.is_home(name, "work"))


async def test_a_priority_costs_two_units(local_url: str, tmp_path: Path) -> None:
    """The life of a high request and of a low one takes 11 write units, of a normal one 9."""
    path = plugin(tmp_path, "cost", CODE, ENTRY_POINTS)
    prefix = unique_prefix()
    put: list[float] = []

    def record(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded) and event.operation == "PutItem":
            put.append(sum(capacity.units for capacity in event.capacity))

    lives: dict[str, float] = {}
    async with open_stores(
        endpoint_url=local_url, prefix=prefix, observe=record, batch_writes=False
    ) as stores:
        await stores.create_tables()
        settings = worker_settings(local_url, prefix, path, STREAMER_BATCH_WRITES="false")
        with Process("run", **settings) as worker:
            url = str(worker.event("worker_started")["metrics_url"])
            for priority in (None, *Priority):
                put.clear()
                before = consumed(url)
                summary = await stores.requests.enqueue_many(_work(50, priority=priority))
                await ended(stores, *(record.request_id for record in summary.records))
                await anyio.sleep(1)
                _, written = split(consumed(url) - before)
                lives[priority or "normal"] = sum(put) / 50 + written / 50
    print(f"\nwrite units of a request: {lives}")  # noqa: T201
    assert 8.9 <= lives["normal"] <= 9.5  # the worker's own heartbeats are in it
    assert 10.9 <= lives["high"] <= 11.5
    assert 10.9 <= lives["low"] <= 11.5


async def test_a_high_request_starts_beside_any_backlog(local_url: str, tmp_path: Path) -> None:
    """Within a second, beside 20,000 normal and 20,000 low ones, also when its home is full."""
    path = plugin(tmp_path, "cost", CODE, ENTRY_POINTS)
    prefix = unique_prefix()
    settings = worker_settings(local_url, prefix, path)
    async with open_stores(endpoint_url=local_url, prefix=prefix) as stores:
        await stores.create_tables()
        with Process("run", **settings) as full:
            full_id = str(full.event("worker_started")["worker_id"])
            held = await stores.requests.enqueue_many(_work(32, 600))
            await _running(stores, [record.request_id for record in held.records])
            with Process("run", **settings) as other:
                other.event("worker_started")
                waits = await _high_waits(stores, full_id)
    print(  # noqa: T201
        f"\na high request whose home is full starts after {statistics.median(waits):.2f} s"
        f" (median), {max(waits):.2f} s at most"
    )
    assert statistics.median(waits) <= 1.0
    assert max(waits) <= 1.5 * slowness()


async def _running(stores: Stores, ids: Sequence[str]) -> None:
    """Wait until all are PROCESSING."""
    with anyio.fail_after(PATIENCE):
        while True:
            requests = (await stores.requests.get_many(list(ids))).values()
            if all(request.status is RequestStatus.PROCESSING for request in requests):
                return
            await anyio.sleep(0.1)


async def _high_waits(stores: Stores, full_id: str) -> list[float]:
    """Return how long high requests wait beside a backlog, whose home is the worker `full_id`."""
    view = FleetView(worker_id=full_id, live=tuple(await stores.workers.list()))
    names = _homed(full_id, view)
    await stores.requests.enqueue_many(_work(BACKLOG, 0.1, priority=Priority.LOW))
    await stores.requests.enqueue_many(_work(BACKLOG, 0.1))
    waits = []
    for _ in range(10):
        (request,) = _work(1, priority=Priority.HIGH, request_id=next(names))
        await stores.requests.enqueue(request)
        waits += await _starts(stores, [request.request_id])
    return waits


async def test_low_requests_do_not_delay_normal_ones(local_url: str, tmp_path: Path) -> None:
    """1,000 normal ones that arrive over 20 s start as soon as without 20,000 older low ones."""
    path = plugin(tmp_path, "cost", CODE, ENTRY_POINTS)
    late: dict[str, float] = {}
    for kind, backlog in (("alone", 0), ("beside", BACKLOG)):
        prefix = unique_prefix()
        async with open_stores(endpoint_url=local_url, prefix=prefix) as stores:
            await stores.create_tables()
            await stores.requests.enqueue_many(_work(backlog, 0.1, priority=Priority.LOW))
            with Process("run", **worker_settings(local_url, prefix, path)) as worker:
                worker.event("worker_started")
                await anyio.sleep(3)
                ids: list[str] = []
                began = time.monotonic()
                for step in range(100):
                    summary = await stores.requests.enqueue_many(_work(10))
                    ids += [record.request_id for record in summary.records]
                    await anyio.sleep(max(0.0, began + (step + 1) * 0.2 - time.monotonic()))
                waits = await _starts(stores, ids)
        late[kind] = waits[math.ceil(0.99 * len(waits)) - 1]
    print(  # noqa: T201
        f"\n99 % of the normal requests start after {late['alone']:.2f} s alone, and after"
        f" {late['beside']:.2f} s beside {BACKLOG:,} low ones"
    )
    assert late["beside"] <= late["alone"] + 0.5


@pytest.mark.parametrize("reason", ["limited", "paused"])
async def test_what_cannot_run_hides_nothing(reason: str, local_url: str, tmp_path: Path) -> None:
    """Behind 20,000 due requests of another action, which cannot run, 100 start within 2 s."""
    path = plugin(tmp_path, "cost", CODE, ENTRY_POINTS)
    prefix = unique_prefix()
    async with open_stores(endpoint_url=local_url, prefix=prefix) as stores:
        await stores.create_tables()
        soon = SystemClock().now() + timedelta(seconds=1)
        if reason == "paused":
            pause = Pause(kind=PauseKind.ACTION, name="held", by="test", at=soon)
            await stores.pauses.start(pause)
        held = AsyncRequest(action="held", retry_after=soon)
        await stores.requests.enqueue_many([held] * BACKLOG)
        with Process("run", **worker_settings(local_url, prefix, path)) as worker:
            worker.event("worker_started")
            await anyio.sleep(10)
            due = SystemClock().now() + timedelta(seconds=2)
            later = await stores.requests.enqueue_many(_work(100, retry_after=due))
            await ended(stores, *(record.request_id for record in later.records))
            requests = await stores.requests.get_many(
                [record.request_id for record in later.records]
            )
            starts = [
                (request.processing_started - due).total_seconds()  # type: ignore[operator]
                for request in requests.values()
            ]
            held_now = stores.requests.get_by_status(RequestStatus.PROCESSING)
            running = [request async for request in held_now]
            assert len(running) == (1 if reason == "limited" else 0)
    print(f"\n{reason}: 100 of another action start after {max(starts):.2f} s at most")  # noqa: T201
    assert max(starts) <= 2
