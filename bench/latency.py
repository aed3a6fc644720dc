"""Latency: seconds from the call of `enqueue` to the start of the handler."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Final

import anyio

from bench.database import fresh_tables
from bench.payloads import payload
from bench.results import Figure, Part, say
from bench.workers import Worker, open_worker
from streamer_store import AsyncRequest, RequestQueue, open_stores

_PER_SECOND: Final = 20.0
_BURST: Final = 500
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """rounds: how often. seconds: how long requests arrive in each round."""

    rounds: int
    seconds: float


async def measure(url: str, folder: Path, plan: Plan) -> Part:
    """Enqueue 20 requests a second, at random moments, then 500 at once."""
    trickles: list[list[float]] = []
    bursts: list[list[float]] = []
    for number in range(plan.rounds):
        async with (
            fresh_tables(url) as tables,
            open_stores(endpoint_url=url, prefix=tables.prefix) as stores,
            open_worker(folder, tables) as worker,
        ):
            bench = _Bench(worker, stores.requests)
            await bench.trickle(round(2 * _PER_SECOND))  # warms up
            trickles.append(await bench.trickle(round(plan.seconds * _PER_SECOND)))
            await anyio.sleep(2)  # the worker is idle when the burst comes
            bursts.append(await bench.burst(_BURST))
        say(f"latency {number + 1}/{plan.rounds}: {_percentile(trickles[-1], 50):.0f} ms (p50)")
    return Part(
        name="latency",
        figures=[
            _figure("20 a second, p50", trickles, 50, at_most=40),
            _figure("20 a second, p99", trickles, 99, at_most=200),
            _figure("burst of 500, p50", bursts, 50),
            _figure("burst of 500, p99", bursts, 99),
        ],
    )


class _Bench:
    """Enqueues requests for a worker that stores when it starts them."""

    def __init__(self, worker: Worker, requests: RequestQueue) -> None:
        self._counter = worker.process.counter
        self._wait_for_count = worker.process.wait_for_count
        self._requests = requests
        self._enqueued: list[float] = []
        self._rng = random.Random(7)

    async def trickle(self, number: int) -> list[float]:
        """Enqueue requests with random pauses, and return their latencies in ms."""
        first = len(self._enqueued)
        due = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(number):
                due += self._rng.expovariate(_PER_SECOND)
                await anyio.sleep(max(0.0, due - time.monotonic()))
                tasks.start_soon(self._enqueue, self._next())
        return await self._latencies(first)

    async def burst(self, number: int) -> list[float]:
        """Enqueue requests at once, and return their latencies in ms."""
        first = len(self._enqueued)
        await self._requests.enqueue_many([self._next() for _ in range(number)])
        return await self._latencies(first)

    def _next(self) -> AsyncRequest:
        position = len(self._enqueued)
        self._enqueued.append(time.monotonic())
        return AsyncRequest(action="stamp", payload=payload(300) | {"position": position})

    async def _enqueue(self, request: AsyncRequest) -> None:
        await self._requests.enqueue(request)

    async def _latencies(self, first: int) -> list[float]:
        await self._wait_for_count(len(self._enqueued), within=_PATIENCE)
        latencies = []
        for position in range(first, len(self._enqueued)):
            started = self._counter.stamped(position)
            if started is None:
                raise RuntimeError("a request was started twice, and another one never")
            latencies.append((started - self._enqueued[position]) * 1000)
        return latencies


def _percentile(latencies: Sequence[float], percent: int) -> float:
    return quantiles(latencies, n=100, method="inclusive")[percent - 1]


def _figure(
    name: str, rounds: Sequence[Sequence[float]], percent: int, *, at_most: float | None = None
) -> Figure:
    samples = [_percentile(latencies, percent) for latencies in rounds]
    return Figure(name=name, unit="ms", samples=samples, at_most=at_most)
