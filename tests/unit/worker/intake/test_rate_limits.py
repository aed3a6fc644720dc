"""Rate limits of whole workers, in virtual time: how many requests start, and when."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from streamer_store.engine import Put
from streamer_store.rate_limits import LIMIT_PREFIX
from streamer_store.schema import REQUESTS
from streamer_worker import Context, Handler, handler
from streamer_worker.app import App
from streamer_worker.events import RateLimitMeasured, RequestFinished
from streamer_worker.settings import PollSettings
from unit.worker.harness import World, make_world, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]


class Starts:
    """Handlers that record when they start. `plain` has no limit."""

    def __init__(self, **limits: Any) -> None:
        self.times: list[float] = []
        self.plain_times: list[float] = []
        self.tenants: list[tuple[float, str | None]] = []
        self.limited: Handler = handler("limited", **limits)(self._run)
        self.plain: Handler = handler("plain")(self._run_plain)

    async def _run(self, _payload: dict[str, Any], ctx: Context) -> None:
        self.times.append(anyio.current_time())
        self.tenants.append((anyio.current_time(), ctx.tenant_id))

    async def _run_plain(self, _payload: dict[str, Any], _ctx: Context) -> None:
        self.plain_times.append(anyio.current_time())

    def most_in(self, seconds: float) -> int:
        """Return the most starts in any window of so many seconds."""
        times = sorted(self.times)
        return max(
            sum(1 for time in times[first:] if time < times[first] + seconds)
            for first in range(len(times))
        )


def app_of(world: World, starts: Starts, **settings: Any) -> App:
    poll = PollSettings(min_interval=0.05, max_interval=0.5)
    return world.app([starts.limited, starts.plain], poll=poll, **settings)


async def test_requests_start_at_the_rate() -> None:
    """All of it is used while requests wait, and no more."""
    world, starts = make_world(), Starts(rate_limit="10/s")
    for _ in range(100):
        await world.enqueue("limited")
    async with running(app_of(world, starts)):
        await world.recorder.wait_for(RequestFinished, 100, within=60)
    assert 9.5 <= starts.times[-1] - starts.times[0] <= 11
    assert starts.most_in(1.0) <= 10 + 1 + 5


async def test_a_burst_starts_at_once() -> None:
    """The rest follows at the rate."""
    world, starts = make_world(), Starts(rate_limit="60/m burst 20")
    for _ in range(25):
        await world.enqueue("limited")
    async with running(app_of(world, starts)):
        await world.recorder.wait_for(RequestFinished, 25, within=60)
    first = starts.times[0]
    assert sum(time < first + 0.9 for time in starts.times) in {20, 21}
    assert 4 <= starts.times[-1] - first <= 6


async def test_a_limited_action_does_not_delay_another() -> None:
    """Requests of another action start as if there were none of it, also with few slots."""
    world, starts = make_world(), Starts(rate_limit="1/m")
    for _ in range(300):
        await world.enqueue("limited")
    async with running(app_of(world, starts, concurrency=2)):
        await world.recorder.wait_for(RequestFinished, 1, within=60)
        began = anyio.current_time()
        for _ in range(50):
            await world.enqueue("plain")
        await world.recorder.wait_for(RequestFinished, 51, within=10)
    assert len(starts.times) == 1
    assert starts.plain_times[-1] - began < 3


async def test_a_tenant_at_its_limit_does_not_delay_another() -> None:
    """Each tenant has permits of its own."""
    world, starts = make_world(), Starts(rate_limit_per_tenant="1/s")
    for _ in range(50):
        await world.enqueue("limited", tenant_id="large")
    async with running(app_of(world, starts, concurrency=2)):
        await world.recorder.wait_for(RequestFinished, 3, within=60)
        began = anyio.current_time()
        await world.enqueue("limited", tenant_id="small")
        await world.enqueue("limited")
        await anyio.sleep(3)
    others = [time for time, tenant in starts.tenants if tenant != "large"]
    assert max(others) - began < 0.7
    counts = Counter(tenant for _, tenant in starts.tenants)
    assert counts["small"] == counts[None] == 1
    assert counts["large"] <= 6  # its burst, and one in each of five seconds


async def test_both_limits_hold() -> None:
    """Each tenant starts at its own rate, and all together at that of the action."""
    world, starts = make_world(), Starts(rate_limit="4/s", rate_limit_per_tenant="3/s")
    for number in range(60):
        await world.enqueue("limited", tenant_id=f"t{number % 2}")
    async with running(app_of(world, starts)):
        await world.recorder.wait_for(RequestFinished, 60, within=120)
    seconds = starts.times[-1] - starts.times[0]
    assert 59 / 4 - 1 <= seconds <= 59 / 4 / 0.9
    for tenant in ("t0", "t1"):
        times = [time for time, of in starts.tenants if of == tenant]
        assert times[-1] - times[0] > 29 / 3 - 1


async def test_retries_count_as_starts() -> None:
    """A request that fails twice uses three permits."""
    world = make_world()
    times: list[float] = []

    @handler("limited", rate_limit="2/s")
    async def failing(_payload: dict[str, Any], _ctx: Context) -> None:
        times.append(anyio.current_time())
        raise RuntimeError

    for _ in range(4):
        await world.enqueue("limited", max_retries=2)
    async with running(world.app([failing])):
        await world.recorder.wait_for(RequestFinished, 12, within=120)
    assert max(times) - min(times) >= 11 / 2 - 1


async def test_an_idle_limit_costs_nothing() -> None:
    """Without a waiting request, no permit is asked for."""
    world, starts = make_world(), Starts(rate_limit="10/s", rate_limit_per_tenant="5/s")
    await world.enqueue("plain")
    async with running(app_of(world, starts)):
        await world.recorder.wait_for(RequestFinished, 1, within=60)
        await anyio.sleep(60)
    assert await world.stores.engine.get(REQUESTS, f"{LIMIT_PREFIX}limited") is None
    assert not world.recorder.of(RateLimitMeasured)


async def test_rubbish_in_the_place_of_the_limit_stops_nothing() -> None:
    """It is replaced, and requests start at the rate."""
    world, starts = make_world(), Starts(rate_limit="10/s")
    rubbish = {"RequestID": {"S": f"{LIMIT_PREFIX}limited"}, "TAT": {"S": "tomorrow"}}
    await world.stores.engine.put(Put(table=REQUESTS, item=rubbish))
    for _ in range(20):
        await world.enqueue("limited")
    async with running(app_of(world, starts)):
        await world.recorder.wait_for(RequestFinished, 20, within=30)
    assert starts.times[-1] - starts.times[0] <= 3


async def test_what_happened_to_permits_is_reported() -> None:
    """Each second, the permits that were granted and how long requests waited for one."""
    world, starts = make_world(), Starts(rate_limit="5/s")
    for _ in range(50):
        await world.enqueue("limited")
    async with running(app_of(world, starts)):
        await world.recorder.wait_for(RequestFinished, 50, within=60)
        await anyio.sleep(3)
    measured = world.recorder.of(RateLimitMeasured)
    assert {(event.action, event.per_tenant) for event in measured} == {("limited", False)}
    assert sum(event.granted - event.expired for event in measured) == 50
    assert 7 <= sum(event.saturated for event in measured) <= 11
    assert all(event.saturated <= 1.6 for event in measured)
    assert sum(event.expired for event in measured) <= 3


async def test_tenants_are_asked_for_in_turn() -> None:
    """With more tenants than calls at once, each of them starts its requests."""
    world, starts = make_world(), Starts(rate_limit_per_tenant="2/s")
    tenants = [f"t{number}" for number in range(60)]
    for _ in range(4):
        for tenant in tenants:
            await world.enqueue("limited", tenant_id=tenant)
    async with running(app_of(world, starts, concurrency=60)):
        await world.recorder.wait_for(RequestFinished, 4 * len(tenants), within=20)
    assert Counter(tenant for _, tenant in starts.tenants) == dict.fromkeys(tenants, 4)
