"""Which requests are rescued, and which are left."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import NotFound, RequestStatus, StoreUnavailable
from streamer_store.engine import Update
from streamer_store.schema import WORKERS
from streamer_worker.events import ClaimReleased, DeadWorkerRemoved, RequestRescued
from streamer_worker.fleet.view import FleetView
from streamer_worker.maintenance.rescuer import RescueCounts
from streamer_worker.push.messages import ErrorMessage
from unit.worker.harness import World, virtual_time
from unit.worker.maintenance.rescuer_bench import (
    FOLLOWER,
    LEADER,
    PROCESSING,
    RETRYING,
    Bench,
    bench,
)

__all__ = ["bench"]
pytestmark = pytest.mark.anyio


async def test_the_leader_rescues_the_requests_of_a_dead_worker(bench: Bench) -> None:
    """They run again after a short wait, with as many attempts as before, and say why.

    Proves RESCUE-4.
    """
    dead = await bench.row("dead")
    claim = await bench.claimed_by("dead", retry_count=1)
    counts = await bench.rescuer.step(FleetView(worker_id="me", dead=(dead,), leads=True))
    assert counts == RescueCounts(running=1, rescued=1, removed=1)
    stored = await bench.world.get(claim)
    assert (stored.status, stored.retry_count, stored.worker_id) == (RETRYING, 1, None)
    assert stored.rescues == 1
    assert (stored.error, stored.error_code) == ("its worker dead is gone", "WORKER_LOST")
    assert stored.retry_after is not None
    assert stored.retry_after <= bench.world.clock.now() + timedelta(seconds=2)
    (event,) = bench.world.recorder.of(RequestRescued)
    assert (event.request_id, event.action) == (claim.request_id, "echo")
    assert (event.worker_id, event.status) == ("dead", "RETRYING")


@virtual_time
async def test_a_request_that_kills_its_workers_comes_to_an_end(world: World) -> None:
    """It fails when it has lost its sixth worker, the last four in probation. Connections are
    notified. The rows are gone already, so nobody knows when the workers were lost.
    """
    bench = Bench(world)
    claim = await bench.claimed_by("w0", max_retries=2, connection_id="c1")
    for name in ("w1", "w2", "w3", "w4", "w5"):
        await bench.step()
        await anyio.sleep(900)
        candidate = await bench.world.candidate(claim.request, RETRYING)
        await bench.world.stores.requests.claim(
            candidate, worker_id=name, alone=candidate.rescues >= 2
        )
    await bench.step()
    stored = await bench.world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "WORKER_LOST")
    events = bench.world.recorder.of(RequestRescued)
    assert [event.status for event in events] == [*["RETRYING"] * 5, "FAILED"]
    (message,) = bench.world.pushed
    assert isinstance(message, ErrorMessage)
    assert (message.request_id, message.connection_id) == (claim.request_id, "c1")
    assert (message.code, message.text) == ("WORKER_LOST", "its worker w5 is gone")


@virtual_time
@pytest.mark.parametrize(("seen_after", "solo"), [(59.0, 3), (61.0, 0)])
async def test_the_last_heartbeat_shows_whether_the_probation_was_over(
    seen_after: float, solo: int, world: World
) -> None:
    """Even if an earlier sweep removed the row and then failed."""
    bench = Bench(world)
    await bench.row("w1")
    request = await world.enqueue(max_retries=3, rescues=2, solo=2)
    claim = await world.stores.requests.claim(
        await world.candidate(request), worker_id="w1", alone=True
    )
    await anyio.sleep(seen_after)
    dead = await world.stores.workers.beat("w1", in_flight=1, draining=False, sweeps=0)
    world.engine.fail("query")
    with pytest.raises(StoreUnavailable):
        await bench.step(FleetView(worker_id="me", dead=(dead,), leads=True))
    assert await bench.rows() == []
    assert await bench.step() == 1
    stored = await world.get(claim)
    assert (stored.status, stored.rescues, stored.solo) == (RETRYING, 3, solo)


async def test_a_follower_rescues_only_its_own_requests(bench: Bench) -> None:
    """It writes neither requests nor rows of others."""
    dead = await bench.row("dead")
    claims = [await bench.claimed_by(worker_id) for worker_id in ("dead", "nobody", None)]
    assert await bench.step(FleetView(worker_id="me", dead=(dead,))) == 0
    assert {await bench.status(claim) for claim in claims} == {PROCESSING}
    assert await bench.rows() == ["dead"]


async def test_requests_of_a_live_worker_are_left(bench: Bench) -> None:
    """Even while it drains."""
    live = await bench.row("live")
    claim = await bench.claimed_by("live")
    assert await bench.step(FleetView(worker_id="me", live=(live,), leads=True)) == 0
    assert await bench.status(claim) is PROCESSING


async def test_a_worker_with_a_new_heartbeat_is_left_alone(bench: Bench) -> None:
    """Its row has changed since it was declared dead, so the row and its requests are kept.

    Proves RESCUE-1.
    """
    slow, idle = await bench.row("slow"), await bench.row("idle")
    claim = await bench.claimed_by("slow")
    for name in ("slow", "idle"):
        await bench.world.stores.workers.beat(name, in_flight=0, draining=False, sweeps=0)
    counts = await bench.rescuer.step(FleetView(worker_id="me", dead=(slow, idle), leads=True))
    assert counts == RescueCounts(running=1)
    assert await bench.status(claim) is PROCESSING
    assert await bench.rows() == ["idle", "slow"]
    assert bench.world.recorder.of(DeadWorkerRemoved) == []


async def test_a_worker_that_starts_during_the_sweep_is_left(bench: Bench) -> None:
    """Requests are read before rows, so a worker whose claim was read has its row in the list.

    Proves RESCUE-2.
    """
    fault = bench.world.engine.hold("query")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.step)
        await fault.wait_reached()
        await bench.row("new")
        request = await bench.world.enqueue()
        candidate = await bench.world.candidate(request)
        await bench.world.stores.requests.claim(candidate, worker_id="new")
        fault.let_go()
    assert (await bench.world.get(request)).status is PROCESSING


@pytest.mark.parametrize("view", [FOLLOWER, LEADER], ids=["follower", "leader"])
async def test_a_request_with_our_id_that_we_do_not_hold_is_rescued(
    view: FleetView, bench: Bench
) -> None:
    """The answer to its claim was lost. A request in a slot is left alone. Proves CLAIM-3."""
    lost, held = await bench.claimed_by("me"), await bench.claimed_by("me")
    bench.slots.take(held.request_id)
    assert await bench.step(view) == 1
    assert (await bench.status(lost), await bench.status(held)) == (RETRYING, PROCESSING)
    stored = await bench.world.get(lost)
    assert (stored.retry_count, stored.rescues) == (1, 0)  # no worker was lost


async def test_a_dead_workers_row_is_removed_before_its_requests_are_rescued(bench: Bench) -> None:
    """A worker that comes back finds no row, and stops. If the sweep fails in between, its
    requests belong to no row, and a later sweep rescues them. Proves RESCUE-1.
    """
    dead = replace(await bench.row("dead"), host="h1", in_flight=2)
    view = FleetView(worker_id="me", dead=(dead,), silent={"dead": 16.5}, leads=True)
    claim = await bench.claimed_by("dead")
    bench.world.engine.fail("get")
    with pytest.raises(StoreUnavailable):
        await bench.step(view)
    assert await bench.rows() == []
    with pytest.raises(NotFound):
        await bench.world.stores.workers.beat("dead", in_flight=1, draining=False, sweeps=0)
    assert await bench.status(claim) is PROCESSING
    assert await bench.rescuer.step(LEADER) == RescueCounts(running=1, rescued=1)
    assert bench.world.recorder.of(DeadWorkerRemoved) == [
        DeadWorkerRemoved(worker_id="dead", host="h1", removed_by="me", silence=16.5, in_flight=2)
    ]


async def test_an_unanswered_claim_that_was_won_is_released(bench: Bench) -> None:
    """It never ran, so no attempt is used, even if none is left. Proves CLAIM-2."""
    request = await bench.world.enqueue(max_retries=0)
    bench.world.engine.fail("update", lands=True)
    assert (
        await bench.claimer.claim(
            await bench.world.candidate(request),
            bench.claimer.reserve(await bench.world.candidate(request)),
        )
        is None
    )
    assert (await bench.world.get(request)).status is PROCESSING
    assert await bench.step(FOLLOWER) == 1
    stored = await bench.world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.PENDING, 0)
    events = bench.world.recorder.of(ClaimReleased)
    assert [event.request_id for event in events] == [request.request_id]


async def test_an_unanswered_claim_of_a_broken_request_is_released(bench: Bench) -> None:
    """It cannot be read, and may not remain PROCESSING for that. Its next claim fails it."""
    await bench.world.put_pending("broken", Payload={"S": "no map"})
    (candidate,) = (
        await bench.world.stores.requests.entries(RequestStatus.PENDING, limit=1)
    ).candidates
    bench.world.engine.fail("update", lands=True)
    assert await bench.claimer.claim(candidate, bench.claimer.reserve(candidate)) is None
    assert await bench.step(FOLLOWER) == 1
    (waiting,) = (
        await bench.world.stores.requests.entries(RequestStatus.PENDING, limit=1)
    ).candidates
    assert waiting.request_id == "broken"


async def test_a_live_worker_with_an_odd_row_keeps_its_requests(bench: Bench) -> None:
    """Another release may write its row in another way."""
    await bench.row("odd")
    claim = await bench.claimed_by("odd")
    wrong = Update(table=WORKERS, key="odd", sets={"Concurrency": {"S": "many"}})
    await bench.world.engine.inner.update(wrong)
    assert await bench.step() == 0
    assert await bench.status(claim) is PROCESSING


async def test_a_claim_in_flight_is_not_rescued(bench: Bench) -> None:
    """Its slot is taken before it is sent, so the sweep finds it held. Proves CLAIM-3."""
    request = await bench.world.enqueue()
    candidate = await bench.world.candidate(request)
    fault = bench.world.engine.hold("update", lands=True)
    won: list[Any] = []

    async def claim() -> None:
        won.append(await bench.claimer.claim(candidate, bench.claimer.reserve(candidate)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claim)
        await fault.wait_reached()
        assert await bench.rescuer.step(FOLLOWER) == RescueCounts(running=1)
        fault.let_go()
    assert [assignment.claim.request_id for assignment in won] == [request.request_id]


async def test_two_leaders_at_once_rescue_a_request_once(world: World, bench: Bench) -> None:
    """The write of the slower one is refused. Proves LEADER-1."""
    view = FleetView(worker_id="me", dead=(await bench.row("dead"),), leads=True)
    claim = await bench.claimed_by("dead")
    fault = world.engine.hold("update")
    counts: list[int] = []

    async def step() -> None:
        counts.append(await bench.step(view))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(step)
        await fault.wait_reached()
        counts.append(await Bench(world).step(view))
        fault.let_go()
    assert counts == [1, 0]
    stored = await world.get(claim)
    assert (stored.status, stored.rescues) == (RETRYING, 1)
