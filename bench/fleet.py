"""Fleet: several workers on one queue."""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack
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
    requests: int
    seconds: float


async def measure(url: str, folder: Path, plan: Plan) -> Part:
    """Let each fleet work off a backlog, and the largest one requests that trickle in."""
    figures: list[Figure] = []
    rates: dict[int, float] = {}
    for size in plan.sizes:
        name = f"{size} worker{'s' * (size > 1)}"
        async with AsyncExitStack() as stack:
            tables = await stack.enter_async_context(fresh_tables(url))
            processes = [stack.enter_context(start_worker(folder, tables)) for _ in range(size)]
            fleet = _Fleet([await started(process) for process in processes])
            await wait_until_fleet_is_known(fleet.workers)
            rates[size] = await fleet.drain(tables, plan.requests)
            lost = 100 * fleet.new_share_of_lost_claims()
            say(f"{name}: {rates[size]:.0f} requests/s, {lost:.2f} % of the claims failed")
            goal = 5.0 if size == 16 else None
            figures += [
                Figure(name=f"{name}, backlog", unit="requests/s", samples=[rates[size]]),
                Figure(name=f"{name}, backlog", unit="% failed", samples=[lost], at_most=goal),
            ]
            if size == plan.sizes[-1]:
                await fleet.trickle(tables, plan.seconds)
                lost = 100 * fleet.new_share_of_lost_claims()
                goal = 1.0 if size == 16 else None
                figures.append(
                    Figure(name=f"{name}, trickle", unit="% failed", samples=[lost], at_most=goal)
                )
    for size in plan.sizes[1:]:
        ratio = rates[size] / rates[1]
        figures.append(Figure(name=f"requests/s, {size} workers / 1", unit=RATIO, samples=[ratio]))
    return Part(name="fleet", figures=figures)


class _Fleet:
    """Workers, their common count of started requests, and their claims so far."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._won = self._lost = 0.0

    @property
    def count(self) -> int:
        return sum(worker.process.counter.value for worker in self.workers)

    def new_share_of_lost_claims(self) -> float:
        """Return the share of failed claims among those since the last call."""
        won = sum(worker.metric("claims_total", outcome="won") for worker in self.workers)
        lost = sum(worker.metric("claims_total", outcome="lost") for worker in self.workers)
        won, self._won = won - self._won, won
        lost, self._lost = lost - self._lost, lost
        return lost / (won + lost)

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
