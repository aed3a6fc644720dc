"""The rate of a whole fleet on DynamoDB Local, in real time."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest, CallEnded, RequestStatus, Stores, SystemClock, open_stores
from streamer_store.rate_limits import PermitTable, limit_name
from streamer_store.rates import MICROSECONDS, Block, Rate
from streamer_store.schema import WORKERS
from streamer_worker import Context, Handler, handler
from streamer_worker.app import App
from streamer_worker.events import FleetObserved, RateLimitMeasured
from streamer_worker.handlers.registry import registry
from streamer_worker.settings import HttpSettings, ReaperSettings, Settings
from streamer_worker.wiring import build_app
from unit.worker.harness import Recorder, push_to

pytestmark = [pytest.mark.anyio, pytest.mark.local]

WORKERS_COUNT = 4
RATE = 50
# The bench of the documentation: STREAMER_TEST_RATE_REQUESTS=3000.
REQUESTS = int(os.environ.get("STREAMER_TEST_RATE_REQUESTS", "600"))
BURST = 1
LIFETIME = 0.5
# Seconds between the use of a permit and the time of the claim, on a machine with other work.
LATE = 0.1


class Starts:
    """A handler that records when it starts, in seconds of the host's clock."""

    def __init__(self, **limits: Any) -> None:
        self.times: list[float] = []
        self.handler: Handler = handler("limited", **limits)(self._run)
        self._changed = anyio.Event()

    async def _run(self, _payload: dict[str, Any], _ctx: Context) -> None:
        self.times.append(SystemClock().steady())
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for(self, count: int, *, within: float) -> None:
        with anyio.fail_after(within):
            while len(self.times) < count:
                await self._changed.wait()

    def by_second(self) -> list[int]:
        times = sorted(self.times)
        counts = Counter(int(time - times[0]) for time in times)
        return [counts[second] for second in range(max(counts) + 1)]


async def claim_times(stores: Stores) -> list[float]:
    """Return when each request was claimed, in order."""
    ended = stores.requests.get_by_status(RequestStatus.COMPLETED)
    times = [request.processing_started async for request in ended]
    return sorted(time.timestamp() for time in times if time is not None)


def most_in(times: list[float], seconds: float) -> int:
    """Return the most of the sorted times in any window of so many seconds."""
    most = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@asynccontextmanager
async def fleet(
    url: str, stores: Stores, starts: Starts, recorder: Recorder
) -> AsyncIterator[list[App]]:
    """Run workers with a client each, in this process."""
    prefix = stores.engine.table_name(WORKERS).removesuffix(WORKERS.name)
    async with AsyncExitStack() as stack:
        apps = []
        for number in range(WORKERS_COUNT):
            own = await stack.enter_async_context(
                open_stores(endpoint_url=url, prefix=prefix, observe=recorder)
            )
            apps.append(
                build_app(
                    own,
                    settings=Settings(
                        reaper=ReaperSettings(enabled=False), http=HttpSettings(enabled=False)
                    ),
                    registry=registry([starts.handler]),
                    push=push_to(lambda _: None),
                    listeners=[recorder],
                    clock=SystemClock(),
                    rng=random.Random(number),
                )
            )
        async with anyio.create_task_group() as tasks:
            for app in apps:
                await tasks.start(app.run)
            yield apps
            for app in apps:
                app.stop()


async def _all_see_each_other(recorder: Recorder) -> None:
    """Wait until each worker knows which requests are its own. Before that they collide."""
    seen = 0
    while seen < WORKERS_COUNT:
        await recorder.wait_for(FleetObserved, len(recorder.of(FleetObserved)) + 1, within=60)
        seen = sum(event.live == WORKERS_COUNT for event in recorder.of(FleetObserved))


async def _enqueue(stores: Stores, count: int, action: str = "limited", **fields: Any) -> None:
    await stores.requests.enqueue_many(
        AsyncRequest(action=action, payload={"n": number}, **fields) for number in range(count)
    )


async def test_a_fleet_starts_at_its_rate_and_never_faster(
    local_stores: Stores, local_url: str, record_property: Callable[[str, object], None]
) -> None:
    """Four workers, 50 a second: at least 90 % of it, and no window has more than is documented."""
    starts, recorder = Starts(rate_limit=f"{RATE}/s"), Recorder()
    async with fleet(local_url, local_stores, starts, recorder):
        await _all_see_each_other(recorder)
        await _enqueue(local_stores, REQUESTS)
        await starts.wait_for(REQUESTS, within=2 * REQUESTS / RATE + 30)
    seconds = max(starts.times) - min(starts.times)
    figures = starts.by_second()
    measured = recorder.of(RateLimitMeasured)
    claims = await claim_times(local_stores)
    calls = Counter(call.operation for call in recorder.of(CallEnded))
    report = {
        "seconds": seconds,
        "each second": figures,
        "most claims in 1 s": most_in(claims, 1.0),
        "granted": sum(event.granted for event in measured),
        "refused": sum(event.refused for event in measured),
        "expired": sum(event.expired for event in measured),
        "calls": calls,
    }
    record_property("rate", str(report))  # workers of xdist send plain values only
    assert REQUESTS / seconds >= 0.9 * RATE, report
    for window in (0.5, 1.0, 2.0, 5.0):
        allowed = RATE * (window + LIFETIME + LATE) + BURST
        assert most_in(claims, window) <= allowed, (window, report)
    assert len(claims) == REQUESTS


async def test_a_worker_that_dies_with_permits_costs_only_those(
    local_stores: Stores, local_url: str
) -> None:
    """The others start at the rate again half a second later at most."""
    starts, recorder = Starts(rate_limit=f"{RATE}/s"), Recorder()
    table = PermitTable(engine=local_stores.engine)
    now = round(SystemClock().now().timestamp() * MICROSECONDS)
    block = await table.take(limit_name("limited"), Rate(RATE), 25, now=now)
    assert isinstance(block, Block)  # of a worker that died
    await _enqueue(local_stores, 100)
    async with fleet(local_url, local_stores, starts, recorder):
        await starts.wait_for(100, within=60)
    assert max(starts.times) - min(starts.times) <= 100 / RATE / 0.9 + 0.5
