"""A put of a request with a unique key is sent twice, and its second copy may arrive late."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import pytest

from contract.request_steps import candidate
from integration.doubling import DoublingEngine
from streamer_store import AsyncRequest, Enqueued, EventType, unique_id
from streamer_store.engine import ConditionFailed, Engine, Put, TransactionPart
from streamer_store.schema import REQUESTS, Table
from streamer_store.stores import stores_over
from support import ManualClock

pytestmark = pytest.mark.anyio
ACTION = "once"
KEY = "key"
ID = unique_id(ACTION, KEY)
_Answer = TypeVar("_Answer")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class _Engine(DoublingEngine):
    """Doubles the first write that takes effect. Keeps the puts of requests."""

    puts: list[Put]

    async def put(self, put: Put) -> None:
        self.puts.append(put)
        await super().put(put)

    async def transact(self, parts: Sequence[TransactionPart]) -> None:
        self.puts += [part for part in parts if isinstance(part, Put)]
        await super().transact(parts)

    async def _send(
        self, table: Table, keys: Sequence[str], send: Callable[[], Awaitable[_Answer]]
    ) -> _Answer:
        if self.doubled or table is not REQUESTS:
            return await send()
        await send()
        self.doubled = True
        await self._meanwhile()
        self.before = await self._items(keys)
        try:
            return await send()
        finally:
            self.after = await self._items(keys)


class Scene:
    """A key, its other users, and a producer whose put is doubled."""

    def __init__(self, inner: Engine) -> None:
        self.clock = ManualClock()
        self.inner = inner
        self.others = stores_over(inner, clock=self.clock, rng=random.Random("others"))
        self.engine = _Engine(inner, REQUESTS, self.run)
        self.engine.puts = []
        self.producer = stores_over(self.engine, clock=self.clock, rng=random.Random("mine"))
        self.request = AsyncRequest(action=ACTION, unique_key=KEY)
        self.runs = 0

    async def run(self) -> None:
        """Claim and complete the request, as a worker does between the two copies."""
        self.clock.advance(3600)
        await self.others.requests.complete(
            await self.others.requests.claim(await candidate(self.others, ID))
        )
        self.runs += 1


async def _nothing(scene: Scene) -> None:
    del scene


async def _waits(scene: Scene) -> None:
    await scene.others.requests.enqueue(scene.request, delay=timedelta(hours=1))


async def _ended(scene: Scene) -> None:
    await scene.others.requests.enqueue(scene.request)
    await scene.run()


async def _ended_with_subscriptions(scene: Scene) -> None:
    await _ended(scene)
    await scene.others.subscriptions.subscribe("c1", ID, [EventType.COMPLETE])


BEFORE: dict[str, tuple[Callable[[Scene], Awaitable[None]], Enqueued]] = {
    "nothing": (_nothing, Enqueued.CREATED),
    "one that waits": (_waits, Enqueued.REPLACED),
    "one that has ended": (_ended, Enqueued.CREATED),
    "one with subscriptions": (_ended_with_subscriptions, Enqueued.CREATED),
}


@pytest.mark.parametrize("before", BEFORE)
async def test_a_lost_answer_starts_no_second_run(inner: Engine, before: str) -> None:
    """The request was stored, and has run to its end, when the second copy arrives. It changes
    nothing, and the producer knows that the run was its own.

    Proves VERSION-2.
    """
    prepare, enqueued = BEFORE[before]
    scene = Scene(inner)
    await prepare(scene)
    runs = scene.runs
    stored = await scene.producer.requests.enqueue(scene.request, on_conflict="replace_waiting")
    assert scene.engine.doubled
    assert scene.engine.before == scene.engine.after
    assert (stored.enqueued, scene.runs) == (enqueued, runs + 1)


@pytest.mark.parametrize("before", BEFORE)
async def test_a_late_copy_of_a_put_starts_nothing(inner: Engine, before: str) -> None:
    """Neither after the end of the request that it stored, nor beside and after the next run.

    Proves UNIQUE-1.
    """
    prepare, _ = BEFORE[before]
    scene = Scene(inner)
    await prepare(scene)
    scene.engine.doubled = True
    await scene.producer.requests.enqueue(scene.request, on_conflict="replace_waiting")
    await scene.run()
    await _refuses_all(scene)
    await scene.others.requests.enqueue(scene.request)
    await _refuses_all(scene)
    await scene.run()
    await _refuses_all(scene)


async def _refuses_all(scene: Scene) -> None:
    for put in scene.engine.puts:
        with pytest.raises(ConditionFailed):
            await scene.inner.put(put)
