"""A producer: milliseconds of one `enqueue`, asynchronous and synchronous."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final

import anyio

from bench.database import fresh_tables
from bench.payloads import payload
from bench.results import RATIO, Figure, Part, say
from streamer_store import AsyncRequest, RequestQueue, SyncRequests, open_stores, open_stores_sync

_WARM_UP: Final = 100
_PAYLOAD_BYTES: Final = 300
_KINDS: Final = ("async", "sync")


async def measure(url: str, _folder: Path, requests: int, rounds: int) -> Part:
    """Enqueue so many requests, one after another, with warm stores of each kind."""
    samples: dict[str, list[list[float]]] = {kind: [] for kind in _KINDS}
    async with (
        fresh_tables(url) as tables,
        open_stores(endpoint_url=url, prefix=tables.prefix) as stores,
    ):
        with open_stores_sync(endpoint_url=url, prefix=tables.prefix) as sync_stores:
            for number in range(rounds):
                await _async_times(stores.requests, _WARM_UP)
                samples["async"].append(await _async_times(stores.requests, requests))
                await anyio.to_thread.run_sync(_sync_times, sync_stores.requests, _WARM_UP)
                taken = await anyio.to_thread.run_sync(_sync_times, sync_stores.requests, requests)
                samples["sync"].append(taken)
                say(f"producer {number + 1}/{rounds}: {_percentile(taken, 50):.2f} ms (sync, p50)")
    figures = [
        Figure(
            name=f"{kind} enqueue, p{percent}",
            unit="ms",
            samples=[_percentile(times, percent) for times in samples[kind]],
        )
        for kind in _KINDS
        for percent in (50, 99)
    ]
    ratios = [
        _percentile(sync, 50) / _percentile(asynchronous, 50)
        for asynchronous, sync in zip(samples["async"], samples["sync"], strict=True)
    ]
    ratio = Figure(name="sync / async, p50", unit=RATIO, samples=ratios)
    return Part(name="producer", figures=[ratio, *figures])


async def _async_times(queue: RequestQueue, number: int) -> list[float]:
    times = []
    for _ in range(number):
        before = time.perf_counter()
        await queue.enqueue(_request())
        times.append((time.perf_counter() - before) * 1000)
    return times


def _sync_times(queue: SyncRequests, number: int) -> list[float]:
    times = []
    for _ in range(number):
        before = time.perf_counter()
        queue.enqueue(_request())
        times.append((time.perf_counter() - before) * 1000)
    return times


def _request() -> AsyncRequest:
    return AsyncRequest(action="noop", payload=payload(_PAYLOAD_BYTES))


def _percentile(times: Sequence[float], percent: int) -> float:
    return quantiles(times, n=100, method="inclusive")[percent - 1]
