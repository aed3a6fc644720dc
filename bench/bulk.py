"""Bulk operations: CPU of this process for each item."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bench.cpus import move, spare_cpu
from bench.database import fresh_tables
from bench.payloads import payload
from bench.results import Figure, Part, say
from streamer_store import AsyncRequest, RequestStatus, open_stores

_PAYLOAD_BYTES: Final = 300
_MOST_CPU: Final = 0.2
"""Milliseconds for a request that is cancelled."""


@asynccontextmanager
async def alone_on_a_cpu() -> AsyncIterator[None]:
    """Give this process a CPU to itself. The database has the others."""
    with spare_cpu() as cpu:
        if cpu is not None:
            move(os.getpid(), {cpu})
        yield


async def measure(url: str, _folder: Path, requests: int, rounds: int) -> Part:
    """Enqueue, cancel, redrive and delete so many requests, `rounds` times."""
    cpu: dict[str, list[float]] = {}
    ids = [f"request-{number}" for number in range(requests)]

    def new() -> Iterator[AsyncRequest]:
        body = payload(_PAYLOAD_BYTES)
        for request_id in ids:
            yield AsyncRequest(action="noop", request_id=request_id, payload=body)

    async with (
        fresh_tables(url) as tables,
        alone_on_a_cpu(),
        open_stores(endpoint_url=url, prefix=tables.prefix) as stores,
    ):
        queue = stores.requests
        ended = [RequestStatus.CANCELLED]
        steps: dict[str, Callable[..., Awaitable[Any]]] = {
            "enqueue_many": lambda **options: queue.enqueue_many(new(), **options),
            "cancel_many": lambda **options: queue.cancel_many(ids, **options),
            "redrive_many": lambda **options: queue.redrive_many(ids, **options),
            "update_status_many": lambda **options: queue.update_status_many(
                ids, RequestStatus.CANCELLED, **options
            ),
            "delete_many": lambda **options: queue.delete_many(ids, statuses=ended, **options),
        }
        for _ in range(rounds):
            for name, step in steps.items():
                before = time.process_time()
                summary = await step(on_result=lambda _: None)
                if summary.done != requests:
                    raise RuntimeError(f"{name}: {summary}")
                spent = (time.process_time() - before) * 1000 / requests
                cpu.setdefault(name, []).append(spent)
                say(f"bulk {name}: {spent:.3f} ms of CPU each")
    goals = {"cancel_many": _MOST_CPU}
    return Part(
        name="bulk",
        figures=[
            Figure(
                name=f"{name} of {requests:,}",
                unit="CPU ms/item",
                samples=samples,
                at_most=goals.get(name),
            )
            for name, samples in cpu.items()
        ],
    )
