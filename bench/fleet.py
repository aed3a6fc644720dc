"""Fleet: several workers on one queue."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from bench.children import ChildFailedError
from bench.database import Tables, fresh_tables
from bench.payloads import payload
from bench.results import RATIO, Figure, Part, say
from bench.workers import Worker, start_worker, started, wait_until_fleet_is_known
from streamer_store import AsyncRequest, open_stores

_TRICKLE_PER_SECOND: Final = 20.0
_TAIL: Final = 0.02
"""The share of the requests at the end that does not count for the throughput."""
_REQUESTS_PER_SECOND: Final = 10.0
"""The slowest drain that is waited for."""
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """sizes: how many workers. requests: in the backlog. seconds: how long requests trickle."""

    sizes: tuple[int, ...]
    rounds: int
    requests: int
    seconds: float


async def measure(url: str, folder: Path, plan: Plan) -> Part:
    """Let each fleet work off a backlog, and the largest one requests that trickle in."""
    rates: dict[int, list[float]] = {size: [] for size in plan.sizes}
    lost: dict[str, list[float]] = {}
    for number in range(plan.rounds):
        for size in plan.sizes:
            name = _name(size)
            async with _open_fleet(url, folder, size) as (fleet, tables):
                rates[size].append(await fleet.drain(tables, plan.requests))
                share = fleet.new_percentage_of_lost_claims()
                lost.setdefault(f"{name}, backlog", []).append(share)
                if size == plan.sizes[-1]:
                    await fleet.trickle(tables, plan.seconds)
                    trickle = fleet.new_percentage_of_lost_claims()
                    lost.setdefault(f"{name}, trickle", []).append(trickle)
            rate = f"{rates[size][-1]:.0f} requests/s, {share:.2f} % of the claims failed"
            say(f"fleet {number + 1}/{plan.rounds} {name}: {rate}")
    goals = {"16 workers, backlog": 5.0, "16 workers, trickle": 1.0}
    return Part(
        name="fleet",
        figures=[
            *(
                Figure(
                    name=f"requests/s, {size} workers / 1",
                    unit=RATIO,
                    samples=[a / b for a, b in zip(rates[size], rates[1], strict=True)],
                )
                for size in plan.sizes[1:]
            ),
            *(
                Figure(name=f"{_name(size)}, backlog", unit="requests/s", samples=rates[size])
                for size in plan.sizes
            ),
            *(
                Figure(name=name, unit="% failed", samples=samples, at_most=goals.get(name))
                for name, samples in lost.items()
            ),
        ],
    )


def _name(size: int) -> str:
    return f"{size} worker{'s' * (size > 1)}"


@asynccontextmanager
async def _open_fleet(url: str, folder: Path, size: int) -> AsyncIterator[tuple[_Fleet, Tables]]:
    """Start so many workers, and wait until they know each other."""
    async with AsyncExitStack() as stack:
        tables = await stack.enter_async_context(fresh_tables(url))
        processes = [stack.enter_context(start_worker(folder, tables)) for _ in range(size)]
        workers = [await started(process) for process in processes]
        await wait_until_fleet_is_known(workers)
        yield _Fleet(workers), tables


class _Fleet:
    """Workers, their common count of started requests, and their claims so far."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._won = self._lost = 0.0

    @property
    def count(self) -> int:
        return sum(worker.process.counter.value for worker in self.workers)

    def new_percentage_of_lost_claims(self) -> float:
        """Return how many percent of the claims since the last call failed."""
        won = sum(worker.metric("claims_total", outcome="won") for worker in self.workers)
        lost = sum(worker.metric("claims_total", outcome="lost") for worker in self.workers)
        won, self._won = won - self._won, won
        lost, self._lost = lost - self._lost, lost
        return 100 * lost / (won + lost)

    async def drain(self, tables: Tables, requests: int) -> float:
        """Fill the queue, and return how many requests start per second.

        Filling is included. It takes about a second for 5,000 requests.
        """
        first, began = self.count, time.perf_counter()
        await tables.enqueue(requests, action="noop", payload=payload(300))
        within = _PATIENCE + requests / _REQUESTS_PER_SECOND
        await self._wait_for_count(first + round(requests * (1 - _TAIL)), within)
        last, ended = self.count, time.perf_counter()
        await self._wait_for_count(first + requests, within)
        return (last - first) / (ended - began)

    async def trickle(self, tables: Tables, seconds: float) -> None:
        """Enqueue 20 requests a second, at random moments, and wait for their starts."""
        rng = random.Random(7)
        number = round(seconds * _TRICKLE_PER_SECOND)
        total = self.count + number
        async with open_stores(endpoint_url=tables.url, prefix=tables.prefix) as stores:
            for _ in range(number):
                await anyio.sleep(rng.expovariate(_TRICKLE_PER_SECOND))
                request = AsyncRequest(action="noop", payload=payload(300))
                await stores.requests.enqueue(request)
        await self._wait_for_count(total, _PATIENCE)

    async def _wait_for_count(self, number: int, within: float) -> None:
        with anyio.move_on_after(within):
            while self.count < number:  # noqa: ASYNC110  nothing announces it
                await anyio.sleep(0.005)
        if self.count < number:
            raise ChildFailedError(f"only {self.count} of {number} requests were started")
