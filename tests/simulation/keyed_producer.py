"""Producers that enqueue under a few unique keys."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import timedelta
from typing import Final

import anyio

from simulation.engine import WorkerEngine
from simulation.schedule import Schedule
from streamer_store import (
    AsyncRequest,
    Clock,
    ConcurrentModification,
    Enqueued,
    OnConflict,
    StoreUnavailable,
    unique_id,
)
from streamer_store.engine import Put
from streamer_store.stores import stores_over

ACTION: Final = "job"
_TRIES: Final = 3
_WINDOWS: Final = (None, timedelta(seconds=5), timedelta(seconds=60))
_DELAYS: Final = (None, None, timedelta(seconds=3))
_CONFLICTS: Final[tuple[OnConflict, ...]] = ("keep", "keep", "replace_waiting")


class ProducerEngine(WorkerEngine):
    """Repeats a put that failed, as the client does: its first copy may take effect, too."""

    async def put(self, put: Put) -> None:
        for _ in range(_TRIES - 1):
            with suppress(StoreUnavailable):
                return await super().put(put)
            await anyio.sleep(0.1)
        return await super().put(put)


class KeyedProducer:
    """Enqueues requests under the keys of a schedule, until it is cancelled."""

    def __init__(
        self, engine: ProducerEngine, *, schedule: Schedule, clock: Clock, rng: random.Random
    ) -> None:
        self._stores = stores_over(engine, clock=clock, rng=rng, report=lambda _: None)
        self._rng = rng
        self._keys = [f"key {number}" for number in range(schedule.keys)]
        # A run does not have the checkpoint of the one before, so the jobs save none.
        self._jobs = [n for n, job in enumerate(schedule.jobs) if not job.reports]
        self.ids = [unique_id(ACTION, key) for key in self._keys]
        self.started: set[str] = set()

    async def run(self) -> None:
        while self._keys and self._jobs:
            await anyio.sleep(self._rng.uniform(0, 3))
            request = AsyncRequest(
                action=ACTION,
                payload={"job": self._rng.choice(self._jobs)},
                unique_key=self._rng.choice(self._keys),
                unique_for=self._rng.choice(_WINDOWS),
            )
            with suppress(StoreUnavailable, ConcurrentModification):
                stored = await self._stores.requests.enqueue(
                    request,
                    delay=self._rng.choice(_DELAYS),
                    on_conflict=self._rng.choice(_CONFLICTS),
                )
                if stored.enqueued is not Enqueued.EXISTS:
                    assert stored.unique_run is not None
                    self.started.add(stored.unique_run)
