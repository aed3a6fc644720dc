"""How long requests are kept after their end."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import (
    AsyncRequest,
    RequestStatus,
    Retention,
    Stores,
    ValidationError,
    memory_stores,
)
from streamer_store.stores import stores_over
from streamer_store.times import epoch
from support import ManualClock

pytestmark = pytest.mark.anyio
KEPT = Retention(
    completed=timedelta(hours=1), failed=timedelta(days=90), cancelled=timedelta(minutes=5)
)


@pytest.fixture
def keeping(stores: Stores, clock: ManualClock) -> Stores:
    """Give stores on the same tables, with their own retention."""
    return stores_over(stores.engine, clock=clock, rng=random.Random(3), retention=KEPT)


async def test_each_end_has_its_own_retention(keeping: Stores, clock: ManualClock) -> None:
    """It counts from the end of the request. A redriven one is kept for seven days again."""
    for number in range(5):
        await keeping.requests.enqueue(AsyncRequest(action="echo", request_id=f"r{number}"))
        clock.advance(1)
    claims = {claim.request_id: claim for claim in await keeping.requests.dequeue(limit=4)}
    clock.advance(600)
    await keeping.requests.complete(claims["r0"])
    await keeping.requests.fail(claims["r1"], "bad", "BAD")
    await keeping.requests.cancel("r2")
    await keeping.requests.retry(claims["r3"], timedelta(hours=3))
    await keeping.requests.update_status("r4", RequestStatus.CANCELLED)
    found = await keeping.requests.get_many([f"r{number}" for number in range(5)])
    week = timedelta(days=7)
    kept_for = [KEPT.completed, KEPT.failed, KEPT.cancelled, week + timedelta(hours=3)]
    assert [request.ttl for request in found.values()] == [
        epoch(clock.now(), each) for each in (*kept_for, KEPT.cancelled)
    ]
    assert (await keeping.requests.redrive("r1")).ttl == epoch(clock.now(), week)


async def test_a_request_that_fails_at_its_rescue_or_claim_is_kept_as_a_failed_one(
    keeping: Stores, clock: ManualClock
) -> None:
    """Nobody's handler decided about it."""
    await keeping.requests.enqueue(AsyncRequest(action="echo", request_id="r1", max_retries=0))
    await keeping.requests.dequeue(limit=1)
    page = await keeping.requests.entries(RequestStatus.PROCESSING, limit=1)
    await keeping.requests.rescue(page.candidates[0], error="gone", code="LOST")
    rescued = await keeping.requests.get("r1")
    assert rescued.status is RequestStatus.FAILED
    assert rescued.ttl == epoch(clock.now(), KEPT.failed)


async def test_seven_days_are_the_default(clock: ManualClock) -> None:
    """As in the Go store."""
    stores = memory_stores(clock=clock, rng=random.Random(1))
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1"))
    (claim,) = await stores.requests.dequeue(limit=1)
    await stores.requests.complete(claim)
    assert (await stores.requests.get("r1")).ttl == epoch(clock.now(), timedelta(days=7))


@pytest.mark.parametrize(
    "wrong", [timedelta(), timedelta(days=-1), timedelta(days=4000), 86_400, None]
)
def test_a_retention_without_sense_is_refused(wrong: Any) -> None:
    """The error names the field."""
    with pytest.raises(ValidationError, match="failed: must be a timedelta from a second"):
        Retention(failed=wrong)
