"""`dequeue` claims several requests at once, and loses none of the claims."""

from __future__ import annotations

import random

import pytest

from streamer_store import AsyncRequest, RequestStatus, StoreUnavailable
from streamer_store.engine import Update
from streamer_store.memory import MemoryEngine
from streamer_store.stores import stores_over
from streamer_store.values import Item
from support import ManualClock

pytestmark = pytest.mark.anyio


class _FailingEngine(MemoryEngine):
    """The first `updates` updates succeed. `under_way` counts calls, `most` the most at once."""

    updates = 1000
    under_way = most = 0

    async def update(self, update: Update) -> Item:
        self.updates -= 1
        if self.updates < 0:
            raise StoreUnavailable("injected")
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().update(update)
        finally:
            self.under_way -= 1


@pytest.fixture
def engine() -> _FailingEngine:
    return _FailingEngine()


async def test_an_error_does_not_lose_claims(
    engine: _FailingEngine, clock: ManualClock, rng: random.Random
) -> None:
    """The claims before an error are returned. The error is raised if there are none."""
    requests = stores_over(engine, clock=clock, rng=rng).requests
    await requests.enqueue_many(AsyncRequest(action="echo") for _ in range(5))
    engine.updates = 2
    claims = await requests.dequeue(5)
    running = [request async for request in requests.get_by_status(RequestStatus.PROCESSING)]
    assert sorted(claim.request_id for claim in claims) == sorted(
        request.request_id for request in running
    )
    assert len(claims) == 2
    with pytest.raises(StoreUnavailable):
        await requests.dequeue(5)


async def test_claims_are_made_25_at_a_time(
    engine: _FailingEngine, clock: ManualClock, rng: random.Random
) -> None:
    """Up to 25 claims are under way at once, and no more requests are claimed than asked for."""
    requests = stores_over(engine, clock=clock, rng=rng).requests
    await requests.enqueue_many(AsyncRequest(action="echo") for _ in range(120))
    assert len(await requests.dequeue(110)) == 110
    assert engine.most == 25
    assert len(await requests.dequeue(50)) == 10
