"""A worker's writes travel together: outcomes, and the claims that follow them."""

from __future__ import annotations

import random
from collections import Counter

import anyio
import pytest

from streamer_store import AsyncRequest
from streamer_store.engine import Update
from streamer_store.group_commit import GroupCommitEngine
from streamer_store.stores import stores_over
from streamer_worker.events import RequestFinished
from unit.store.batching import RecordingEngine
from unit.worker.harness import World, echo, make_world, on_asyncio, running

pytestmark = [pytest.mark.anyio, on_asyncio]
COUNT = 200
CONCURRENCY = 10


async def test_outcomes_share_calls_with_the_next_claims(rng: random.Random) -> None:
    """Ten outcomes and the ten claims that follow them need one call, not twenty."""
    inner = RecordingEngine()
    world: World = make_world()
    async with anyio.create_task_group() as calls:
        engine = GroupCommitEngine(inner, tasks=calls, rng=rng)
        world.stores = stores_over(engine, clock=world.clock, rng=rng)
        await world.stores.requests.enqueue_many(
            AsyncRequest(action="echo", payload={}) for _ in range(COUNT)
        )
        inner.calls.clear()
        inner.writes.clear()
        async with running(world.app([echo], concurrency=CONCURRENCY)):
            await world.recorder.wait_for(RequestFinished, COUNT)
        calls.cancel_scope.cancel()
    batches = [
        Counter(
            write.sets["Status"]["S"]
            for write in writes
            if isinstance(write, Update) and "Status" in write.sets
        )
        for writes in inner.writes
    ]
    shared = [batch for batch in batches if batch["COMPLETED"] and batch["PROCESSING"]]
    assert sum(batch["COMPLETED"] for batch in batches) == COUNT
    assert len(shared) >= COUNT / CONCURRENCY / 2
    busy = [batch for batch in batches if batch]
    assert len(busy) <= 2 * COUNT / CONCURRENCY
