"""Suspects, which may have killed their workers: found, and run one at a time in probation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus, WorkerRow, codec
from streamer_store.engine import Page, Query
from streamer_store.schema import REQUESTS
from streamer_worker.events import ClaimTried
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.slots import Slots
from support import START
from unit.worker.benches import MIN_AGE, PollBench
from unit.worker.harness import World, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]


@asynccontextmanager
async def bench_of_age(world: World, age: float = MIN_AGE) -> AsyncIterator[PollBench]:
    bench = PollBench(world)
    await anyio.sleep(age)
    yield bench
    bench.close()


async def enqueue(world: World, *names: str, **fields: Any) -> None:
    """Enqueue requests, one after the other."""
    for name in names:
        await world.enqueue(request_id=name, **fields)
        await anyio.sleep(0.001)


async def ids(bench: PollBench) -> list[str]:
    await bench.poller.step()
    return sorted(assignment.claim.request_id for assignment in bench.assignments())


async def test_one_suspect_runs_beside_other_requests(world: World) -> None:
    """The oldest one first. Its claim says that it is alone. Other suspects wait."""
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", "s2", rescues=2)
        await enqueue(world, "r1", rescues=1)
        assert await ids(bench) == ["r1", "s1"]
        assert await ids(bench) == []
        stored = await world.stores.requests.get("s1")
        assert stored.alone == stored.version
        assert (await world.stores.requests.get("r1")).alone is None


async def test_a_young_worker_runs_no_suspect(world: World) -> None:
    """So a crash soon after the start does not count against a request."""
    async with bench_of_age(world, MIN_AGE - 1) as bench:
        await enqueue(world, "s1", rescues=2)
        assert await ids(bench) == []
        await anyio.sleep(1)
        assert await ids(bench) == ["s1"]


@pytest.mark.parametrize(("rescues", "seconds"), [(2, 60), (3, 120), (5, 480)])
async def test_the_next_suspect_starts_when_the_probation_is_over(
    rescues: int, seconds: float, world: World
) -> None:
    """A suspect that runs for hours does not delay the others."""
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", rescues=rescues)
        await enqueue(world, "s2", rescues=rescues)
        assert await ids(bench) == ["s1"]
        await anyio.sleep(seconds - 0.1)
        assert await ids(bench) == []
        await anyio.sleep(0.2)
        assert await ids(bench) == ["s2"]


@pytest.mark.parametrize("end", ["release", "settle"])
async def test_the_next_suspect_starts_when_the_attempt_has_ended(end: str, world: World) -> None:
    """Even if its thread still runs: that keeps its slot, not the probation."""
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", "s2", rescues=4)
        await bench.poller.step()
        (assignment,) = bench.assignments()
        getattr(bench.slots, end)(assignment.slot)
        assert await ids(bench) == ["s2"]


async def test_a_lost_claim_frees_the_probation(world: World) -> None:
    """Another worker has the suspect, and this one may run the next suspect."""
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", "s2", rescues=2)
        fault = world.engine.hold("update")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.poller.step)
            await fault.wait_reached()
            await world.stores.requests.cancel("s1")
            fault.let_go()
        assert bench.assignments() == []
        assert await ids(bench) == ["s2"]


async def test_a_suspect_runs_in_any_free_probation(world: World) -> None:
    """Its home has one `steal_delay` more time, even over workers with requests of their own."""
    async with bench_of_age(world) as bench:
        other = WorkerRow(worker_id="other", started_at=START, actions=frozenset({"echo"}))
        me = WorkerRow(worker_id="me", started_at=START, actions=frozenset({"echo"}))
        third = WorkerRow(worker_id="third", started_at=START, actions=frozenset({"echo"}))
        fleet = bench.fleet = FleetView(worker_id="me", live=(other, me, third))
        names = [f"r{number}" for number in range(100)]
        mine = [name for name in names if fleet.rank(name, "echo") == 0]
        last = next(name for name in names if fleet.rank(name, "echo") == 2)
        await enqueue(world, last, rescues=2)
        await enqueue(world, mine[0])
        assert await ids(bench) == [mine[0]]
        await anyio.sleep(0.6)
        await enqueue(world, mine[1])
        assert await ids(bench) == sorted([last, mine[1]])


class SlimIndex:
    """A StatusIndex that does not project Rescues, as an earlier release made it."""

    def __init__(self, world: World) -> None:
        self._query = world.engine.query
        world.engine.query = self.query  # type: ignore[method-assign]

    async def query(self, query: Query) -> Page:
        page = await self._query(query)
        items = [{k: v for k, v in item.items() if k != "Rescues"} for item in page.items]
        return Page(items=items, last_evaluated_key=page.last_evaluated_key)


async def test_a_claim_shows_a_suspect_where_the_index_does_not(world: World) -> None:
    """It may run again at once if the probation is free, then alone. No attempt is used."""
    SlimIndex(world)
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", rescues=2, solo=1)
        assert await ids(bench) == []
        waiting = await world.stores.requests.get("s1")
        assert waiting.retry_after is not None
        assert waiting.retry_after <= world.clock.now()
        assert (waiting.status, waiting.retry_count) == (RequestStatus.RETRYING, 0)
        assert (waiting.rescues, waiting.solo) == (2, 1)
        await anyio.sleep(1)
        assert await ids(bench) == ["s1"]
        stored = await world.stores.requests.get("s1")
        assert stored.alone == stored.version
        assert [event.outcome for event in world.recorder.of(ClaimTried)] == ["postponed", "won"]


async def test_without_a_free_probation_such_a_suspect_is_skipped(world: World) -> None:
    """It waits 30 to 60 s. Its Rescues are remembered until the probation is free."""
    SlimIndex(world)
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", rescues=3)
        assert await ids(bench) == []
        await anyio.sleep(1)
        assert await ids(bench) == ["s1"]
        await enqueue(world, "s2", rescues=2)
        assert await ids(bench) == []
        waiting = await world.stores.requests.get("s2")
        assert waiting.retry_after is not None
        wait = waiting.retry_after - world.clock.now()
        assert timedelta(seconds=30) <= wait <= timedelta(seconds=60)
        await anyio.sleep(60)
        world.engine.calls.clear()
        assert await ids(bench) == []
        assert "update" not in world.engine.calls
        await anyio.sleep(60)
        assert await ids(bench) == ["s2"]


async def test_the_probation_is_in_use_while_a_claim_is_on_its_way(world: World) -> None:
    """Another suspect, which the index does not show, is postponed by 30 to 60 s."""
    SlimIndex(world)
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", rescues=2)
        assert await ids(bench) == []  # from now on it is known as a suspect
        await anyio.sleep(1)
        await enqueue(world, "s2", rescues=2)
        fault = world.engine.hold("update", when=lambda update: update.key == "s1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.poller.step)
            await fault.wait_reached()
            await anyio.wait_all_tasks_blocked()
            waiting = await world.stores.requests.get("s2")
            fault.let_go()
        assert waiting.retry_after is not None
        assert waiting.retry_after >= world.clock.now() + timedelta(seconds=30)


async def test_a_redriven_request_is_no_suspect_any_more(world: World) -> None:
    """The Rescues that the claim shows count, not the remembered ones."""
    SlimIndex(world)
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", "s2", rescues=2)
        await bench.poller.step()
        await world.stores.requests.cancel("s1")
        await world.stores.requests.redrive("s1")
        assert await ids(bench) == ["s1"]
        assert await ids(bench) == ["s2"]


async def test_a_postponement_without_an_answer_is_repaired(world: World) -> None:
    """The claim was won and the request did not run: the next sweep releases it uncounted."""
    SlimIndex(world)
    async with bench_of_age(world) as bench:
        await enqueue(world, "s1", rescues=2)
        world.engine.fail("update", when=lambda update: update.sets["Status"]["S"] == "RETRYING")
        assert await ids(bench) == []
        (item,) = await world.engine.inner.get_many(REQUESTS, ["s1"])
        claim = bench.claimer.unanswered(codec.candidate(item).seen_version)
        assert claim is not None
        assert await bench.claimer.release_unanswered(claim)
        stored = await world.stores.requests.get("s1")
        assert (stored.status, stored.rescues) == (RequestStatus.PENDING, 2)


@pytest.mark.parametrize("rescues", ["2.5", "-1", "1E+38"])
async def test_an_odd_count_of_rescues_fails_its_request_and_holds_no_slot(
    rescues: str, world: World
) -> None:
    """An item written by another program must not stop the worker."""
    async with bench_of_age(world) as bench:
        await world.put_pending("odd", Action={"S": "echo"}, Rescues={"N": rescues})
        await enqueue(world, "r1")
        assert await ids(bench) == ["r1"]
        (item,) = await world.engine.inner.get_many(REQUESTS, ["odd"])
        assert (item["Status"]["S"], item["ErrorCode"]["S"]) == ("FAILED", "INVALID_REQUEST")
        assert "Rescues" in item["Error"]["S"]
        assert bench.slots.used == 1


async def test_the_probation_is_free_again_after_every_use(world: World) -> None:
    """It is used and freed twice."""
    slots = Slots(3, events=world.events)
    probation = Probation(free_from=0, clock=world.clock)
    for _ in range(2):
        assert probation.is_free
        slot = slots.take("r1")
        probation.enter(slot, 2)
        assert not probation.is_free
        slots.release(slot)
        assert probation.is_free
