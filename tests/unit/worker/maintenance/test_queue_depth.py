"""How the leader counts requests that wait and that run."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from streamer_store import AsyncRequest, RequestStatus, Stores, WorkerRow, memory_stores
from streamer_store.memory import MemoryEngine
from streamer_worker.events import Event, QueueMeasured
from streamer_worker.fleet.membership import Membership
from streamer_worker.maintenance.queue_depth import DepthGauge
from streamer_worker.settings import DepthSettings
from support import START, ManualClock, make_runtime

pytestmark = pytest.mark.anyio
RETRYING = RequestStatus.RETRYING


@dataclass
class Bench:
    """A gauge on stores in memory. `leads_for`: how many more times it is the leader when asked."""

    clock: ManualClock
    stores: Stores
    leads_for: int = 1000
    emitted: list[Event] = field(default_factory=list)

    @property
    def engine(self) -> MemoryEngine:
        assert isinstance(self.stores.engine, MemoryEngine)
        return self.stores.engine

    def measured(self) -> list[QueueMeasured]:
        return [event for event in self.emitted if isinstance(event, QueueMeasured)]

    def counts(self, status: RequestStatus) -> list[tuple[int, bool]]:
        """Return the counts of a status, and whether each is of later ones. Forget all."""
        found = [(event.count, event.later) for event in self.measured() if event.status == status]
        self.emitted.clear()
        return found

    def gauge(self, *, limit: int = 10_000) -> DepthGauge:
        return DepthGauge(
            requests=self.stores.requests,
            settings=DepthSettings(interval=15, limit=limit),
            membership=_LosingLead(self),
            runtime=make_runtime(self.emitted.append, clock=self.clock),
        )


class _LosingLead(Membership):
    """The membership of a worker that stops to lead after a number of questions."""

    def __init__(self, bench: Bench) -> None:
        row = WorkerRow(worker_id="me", started_at=START)
        super().__init__(row, lease=math.inf, clock=bench.clock)
        self._bench = bench

    @property
    def leads(self) -> bool:
        self._bench.leads_for -= 1
        return self._bench.leads_for >= 0


@pytest.fixture
def bench(clock: ManualClock, rng: random.Random) -> Bench:
    return Bench(clock, memory_stores(clock=clock, rng=rng, report=lambda _: None))


async def _enqueue(bench: Bench, count: int) -> None:
    for _ in range(count):
        await bench.stores.requests.enqueue(AsyncRequest(action="echo"))
        bench.clock.advance(1)


async def test_each_status_is_counted_with_the_age_of_its_oldest(bench: Bench) -> None:
    """Statuses without requests too, so that a graph returns to 0."""
    await _enqueue(bench, 3)
    await bench.stores.requests.dequeue(1)
    gauge = bench.gauge()
    counts = await gauge.step()
    assert bench.emitted == [
        QueueMeasured(status="PENDING", count=2, more=False, oldest=2.0),
        QueueMeasured(status="RETRYING", count=0, more=False, oldest=None),
        QueueMeasured(status="SCHEDULED", count=0, more=False, oldest=None),
        QueueMeasured(status="PROCESSING", count=1, more=False, oldest=3.0),
        QueueMeasured(status="RETRYING", count=0, more=False, oldest=None, later=True),
        QueueMeasured(status="SCHEDULED", count=0, more=False, oldest=None, later=True),
    ]
    assert gauge.pause(counts) == 15


async def test_counting_ends_at_the_limit(bench: Bench) -> None:
    """A backlog of millions is not read every few seconds."""
    await _enqueue(bench, 5)
    await bench.gauge(limit=4).step()
    assert bench.emitted[0] == QueueMeasured(status="PENDING", count=4, more=True, oldest=5.0)


async def test_only_the_leader_counts(bench: Bench) -> None:
    """The others check again soon, because one of them may lead then."""
    bench.leads_for = 0
    gauge = bench.gauge()
    counts = await gauge.step()
    assert counts is None
    assert bench.emitted == []
    assert gauge.pause(counts) == 5


async def test_a_worker_that_stops_leading_emits_nothing_more(bench: Bench) -> None:
    """Its metrics are gone already, and would come back for ever."""
    bench.leads_for = 1
    assert await bench.gauge().step() is None
    assert bench.emitted == []
    bench.leads_for = 2
    assert await bench.gauge().step() is None
    assert not any(event.later for event in bench.measured())


async def _retry_later(bench: Bench, count: int, seconds: float) -> None:
    """Make requests RETRYING, so that they are due in this many seconds."""
    await _enqueue(bench, count)
    for claim in await bench.stores.requests.dequeue(count):
        await bench.stores.requests.retry(claim, timedelta(seconds=seconds), counts=False)


async def test_what_waits_for_later_is_counted_apart_and_rarely(bench: Bench) -> None:
    """RETRYING requests count in the queue once they may run."""
    await _retry_later(bench, 3, 400)
    gauge = bench.gauge()
    await gauge.step()
    assert bench.counts(RETRYING) == [(0, False), (3, True)]
    bench.clock.advance(400)
    await gauge.step()
    assert bench.counts(RETRYING) == [(3, False)]
    bench.clock.advance(200)
    await gauge.step()
    assert bench.counts(RETRYING) == [(3, False), (0, True)]


async def test_many_that_wait_for_later_are_counted_more_rarely(bench: Bench) -> None:
    """Reading them costs as much as there are, so a large number is read again later."""
    await _retry_later(bench, 3100, 86_400)
    gauge = bench.gauge()
    await gauge.step()
    bench.clock.advance(929)
    await gauge.step()
    assert bench.counts(RETRYING) == [(0, False), (3100, True), (0, False)]
    bench.clock.advance(1)
    await gauge.step()
    assert bench.counts(RETRYING) == [(0, False), (3100, True)]


async def test_a_new_leader_counts_what_waits_for_later_at_once(bench: Bench) -> None:
    gauge = bench.gauge()
    await gauge.step()
    bench.leads_for = 0
    await gauge.step()
    bench.leads_for = 1000
    bench.emitted.clear()
    await gauge.step()
    assert bench.counts(RETRYING) == [(0, False), (0, True)]


async def test_without_the_index_all_retries_count(bench: Bench) -> None:
    """As in earlier releases."""
    bench.engine.missing_indexes = {"DueIndex"}
    await _retry_later(bench, 3, 400)
    await bench.gauge().step()
    assert bench.counts(RETRYING) == [(3, False)]
