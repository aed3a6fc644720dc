"""Many tenants, one of them with most of the requests: all are served fairly."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest
from streamer_store.engine import Page, Query, Update
from streamer_store.values import Item
from streamer_worker import handler
from streamer_worker.events import RequestFinished
from unit.worker.harness import World, make_world, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]

SLOTS = 32
SECONDS = 0.3
TENANTS = {"big": 2000} | {f"m{n}": 200 for n in range(4)} | {f"s{n}": 20 for n in range(15)}


def ends_with_perfect_rotation() -> dict[str, float]:
    """Return when each tenant's last request ends if the free slots go to the tenants in turn."""
    left = Counter(TENANTS)
    slots = [0.0] * SLOTS
    ends: dict[str, float] = {}
    while left:
        for tenant in list(left):
            ends[tenant] = heapq.heapreplace(slots, slots[0] + SECONDS) + SECONDS
            left[tenant] -= 1
            if not left[tenant]:
                del left[tenant]
    return ends


class Latency:
    """A network: a read takes 10 ms and returns up to 5,000 entries, a write takes 5 ms."""

    def __init__(self, world: World) -> None:
        world.engine.inner._page_items = 5000  # about 1 MB, the most that DynamoDB returns
        self._query, self._update = world.engine.inner.query, world.engine.inner.update
        world.engine.inner.query = self.query  # type: ignore[method-assign]
        world.engine.inner.update = self.update  # type: ignore[method-assign]

    async def query(self, query: Query) -> Page:
        await anyio.sleep(0.01)
        return await self._query(query)

    async def update(self, update: Update) -> Item:
        await anyio.sleep(0.005)
        return await self._update(update)


async def test_a_small_tenant_is_not_delayed_by_a_large_one() -> None:
    """Each tenant ends within 1.5 times the time of a perfect rotation."""
    world = make_world()
    ended: dict[str | None, float] = {}

    @handler("work")
    async def work(_payload: dict[str, Any], ctx: Any) -> None:
        await anyio.sleep(SECONDS)
        ended[ctx.tenant_id] = anyio.current_time() - began

    for tenant, count in TENANTS.items():
        await world.stores.requests.enqueue_many(
            AsyncRequest(action="work", tenant_id=tenant) for _ in range(count)
        )
        await anyio.sleep(1)
    Latency(world)
    began = anyio.current_time()
    async with running(world.app([work], concurrency=SLOTS)):
        await world.recorder.wait_for(RequestFinished, sum(TENANTS.values()), within=300)
    ideal = ends_with_perfect_rotation()
    ratios = {tenant: ended[tenant] / ideal[tenant] for tenant in TENANTS}
    assert max(ratios.values()) <= 1.5
