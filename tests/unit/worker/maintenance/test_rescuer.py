"""Rescuing requests whose workers are gone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import Claim, InvalidInput, NotFound, RequestStatus, StoreUnavailable, WorkerRow
from streamer_store.engine import Update
from streamer_store.schema import REQUESTS, WORKERS
from streamer_worker.events import (
    ClaimReleased,
    DeadWorkerRemoved,
    ItemUndecodable,
    RequestRescued,
)
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.slots import Slots
from streamer_worker.maintenance.rescuer import RescueCounts, Rescuer
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.messages import ErrorMessage
from streamer_worker.settings import PresenceSettings, RescueSettings, Settings
from support import START, ManualClock
from unit.worker.harness import World, virtual_time

pytestmark = pytest.mark.anyio

LEASE = 16.0
FOLLOWER = FleetView(worker_id="me")
LEADER = FleetView(worker_id="me", leads=True)
RETRYING, PROCESSING = RequestStatus.RETRYING, RequestStatus.PROCESSING


class Bench:
    """The rescuer of `me`, and its slots."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world
        self.time = ManualClock()
        self.slots = Slots(10, events=world.events)
        announcer = Announcer(push=world.pushed.append, clock=world.clock)
        self.claimer = Claimer(
            worker_id="me",
            requests=world.stores.requests,
            slots=self.slots,
            seen_requests=SeenRequests(clock=world.clock),
            probation=Probation(free_from=45, clock=self.time),
            announcer=announcer,
            events=world.events,
            clock=world.clock,
            rng=world.rng,
        )
        self.rescuer = Rescuer(
            worker_id="me",
            stores=world.stores,
            claimer=self.claimer,
            announcer=announcer,
            slots=self.slots,
            settings=Settings(
                presence=PresenceSettings(lease=LEASE, **settings),
                rescue=RescueSettings(max_rescues=5),
            ),
            events=world.events,
            clock=world.clock if settings else self.time,
        )

    async def claimed_by(self, worker_id: str | None, **fields: Any) -> Claim:
        """Return the claim of a request with attempts left, by that worker."""
        request = await self.world.enqueue(**{"max_retries": 3} | fields)
        candidate = await self.world.candidate(request)
        return await self.world.stores.requests.claim(candidate, worker_id=worker_id)

    async def row(self, worker_id: str) -> WorkerRow:
        row = WorkerRow(worker_id=worker_id, started_at=START)
        await self.world.stores.workers.register(row)
        return row

    async def rows(self) -> list[str]:
        return [row.worker_id for row in await self.world.stores.workers.list()]

    async def status(self, claim: Claim) -> RequestStatus:
        return (await self.world.get(claim)).status

    async def step(self, view: FleetView = LEADER) -> int:
        """Sweep once, and return how many requests were rescued."""
        return (await self.rescuer.step(view)).rescued


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)


async def test_the_leader_rescues_the_requests_of_a_dead_worker(bench: Bench) -> None:
    """They run again after a short wait, with as many attempts as before, and say why."""
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
    """Its row has changed since it was declared dead, so the row and its requests are kept."""
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
    """Requests are read before rows, so a worker whose claim was read has its row in the list."""
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
    """The answer to its claim was lost. A request in a slot is left alone."""
    lost, held = await bench.claimed_by("me"), await bench.claimed_by("me")
    bench.slots.take(held.request_id)
    assert await bench.step(view) == 1
    assert (await bench.status(lost), await bench.status(held)) == (RETRYING, PROCESSING)
    stored = await bench.world.get(lost)
    assert (stored.retry_count, stored.rescues) == (1, 0)  # no worker was lost


async def test_a_follower_sweeps_once_in_a_lease(bench: Bench) -> None:
    """A sweep costs two reads and rarely finds anything. A sweep that failed is repeated."""
    assert await bench.step(FOLLOWER) == 0
    claim = await bench.claimed_by("me")
    bench.world.engine.calls.clear()
    bench.time.advance(LEASE - 0.1)
    assert await bench.step(FOLLOWER) == 0
    assert bench.world.engine.calls == []
    bench.time.advance(0.1)
    bench.world.engine.fail("query")
    with pytest.raises(StoreUnavailable):
        await bench.step(FOLLOWER)
    assert await bench.step(FOLLOWER) == 1
    assert await bench.status(claim) is RETRYING


@virtual_time
async def test_another_consumers_requests_are_left(world: World) -> None:
    """For ever, unless `foreign_claim_timeout` is set."""
    bench = Bench(world)
    claim = await bench.claimed_by(None)
    await anyio.sleep(365 * 86400)
    assert await bench.step() == 0
    assert await bench.status(claim) is PROCESSING


@virtual_time
async def test_another_consumers_requests_are_rescued_after_their_time(world: World) -> None:
    """By the leader. The time counts from ProcessingStarted, not from CreatedAt."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    request = await world.enqueue(max_retries=3)
    await anyio.sleep(3600)
    await world.stores.requests.claim(await world.candidate(request))
    await anyio.sleep(599)
    young = await bench.claimed_by(None)
    assert await bench.step() == 0
    await anyio.sleep(LEASE + 1)
    assert await bench.step(FOLLOWER) == 0
    assert await bench.step() == 1
    stored = await world.get(request)
    assert (stored.status, stored.error) == (RETRYING, "its consumer is gone")
    assert await bench.status(young) is PROCESSING


def running_item(name: str, **attributes: Any) -> dict[str, Any]:
    return {
        "RequestID": {"S": name},
        "Status": {"S": "PROCESSING"},
        "CreatedAt": {"S": "2020-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
    } | attributes


async def test_created_at_counts_for_a_consumer_that_writes_no_time(world: World) -> None:
    """Without ProcessingStarted, CreatedAt decides."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    await world.put_raw(**running_item("old"))
    assert await bench.step() == 1
    assert (await world.stores.requests.get("old")).status is RETRYING


async def test_an_undecodable_request_does_not_stop_the_sweep(world: World) -> None:
    """A dead worker's one is failed, another consumer's one is left, and the others are rescued."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    odd = {"RetryCount": {"S": "many"}}
    await world.put_raw(**running_item("lost", WorkerID={"S": "nobody"}, **odd))
    await world.put_raw(**running_item("foreign", **odd))
    await world.put_raw(**running_item("broken", WorkerID={"N": "7"}, Version={"N": "1"}))
    claim = await bench.claimed_by("nobody")
    assert await bench.step() == 2
    assert await bench.status(claim) is RETRYING
    items = await world.engine.inner.get_many(REQUESTS, ["lost", "foreign", "broken"])
    assert [item["Status"]["S"] for item in items] == ["FAILED", "PROCESSING", "PROCESSING"]


async def test_a_write_that_dynamodb_refuses_does_not_stop_the_sweep(bench: Bench) -> None:
    """It is reported, and the other requests are rescued."""
    odd, other = await bench.claimed_by("nobody"), await bench.claimed_by("nobody")
    refused = InvalidInput("refused")
    bench.world.engine.fail(
        "update", when=lambda update: update.key == odd.request_id, error=refused
    )
    assert await bench.step() == 1
    assert (await bench.status(odd), await bench.status(other)) == (PROCESSING, RETRYING)
    (event,) = bench.world.recorder.of(ItemUndecodable)
    assert (event.key, event.reason) == (odd.request_id, "refused")


@pytest.mark.parametrize("happens", ["complete", "delete"])
@pytest.mark.parametrize("before", ["get", "update"])
async def test_a_race_that_is_lost_is_not_counted(before: str, happens: str, bench: Bench) -> None:
    """The first write wins, and the other requests are rescued."""
    claim, other = await bench.claimed_by("nobody"), await bench.claimed_by("nobody")
    fault = bench.world.engine.hold(
        before, when=lambda call: getattr(call, "key", call) == claim.request_id
    )
    counts: list[int] = []

    async def step() -> None:
        counts.append(await bench.step())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(step)
        await fault.wait_reached()
        subject = claim if happens == "complete" else claim.request_id
        await getattr(bench.world.stores.requests, happens)(subject)
        fault.let_go()
    assert counts == [1]
    (event,) = bench.world.recorder.of(RequestRescued)
    assert event.request_id == other.request_id


@pytest.mark.parametrize("operation", ["query", "scan", "get", "update"])
async def test_an_outage_is_raised_as_it_is(operation: str, bench: Bench) -> None:
    """As the store's error, not an exception group. The sweep is not counted."""
    for _ in range(30):
        await bench.claimed_by("nobody")
    bench.world.engine.fail(operation, times=1000)
    with pytest.raises(StoreUnavailable):
        await bench.step()
    assert bench.rescuer.sweeps == 0
    bench.world.engine.heal()
    assert await bench.step() == 30


async def test_all_pages_are_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests are running."""
    monkeypatch.setattr("streamer_worker.maintenance.rescuer._PAGE_SIZE", 2)
    for _ in range(5):
        await bench.claimed_by("nobody")
    assert await bench.rescuer.step(LEADER) == RescueCounts(running=5, rescued=5)


async def test_a_dead_workers_row_is_removed_before_its_requests_are_rescued(bench: Bench) -> None:
    """A worker that comes back finds no row, and stops. If the sweep fails in between, its
    requests belong to no row, and a later sweep rescues them.
    """
    view = FleetView(worker_id="me", dead=(await bench.row("dead"),), leads=True)
    claim = await bench.claimed_by("dead")
    bench.world.engine.fail("get")
    with pytest.raises(StoreUnavailable):
        await bench.step(view)
    assert await bench.rows() == []
    with pytest.raises(NotFound):
        await bench.world.stores.workers.beat("dead", in_flight=1, draining=False, sweeps=0)
    assert await bench.status(claim) is PROCESSING
    assert await bench.rescuer.step(LEADER) == RescueCounts(running=1, rescued=1)
    assert bench.world.recorder.of(DeadWorkerRemoved) == [DeadWorkerRemoved(worker_id="dead")]


async def test_an_unanswered_claim_that_was_won_is_released(bench: Bench) -> None:
    """It never ran, so no attempt is used, even if none is left."""
    request = await bench.world.enqueue(max_retries=0)
    bench.world.engine.fail("update", lands=True)
    assert await bench.claimer.claim_all([await bench.world.candidate(request)], print) == 0
    assert (await bench.world.get(request)).status is PROCESSING
    assert await bench.step(FOLLOWER) == 1
    stored = await bench.world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.PENDING, 0)
    events = bench.world.recorder.of(ClaimReleased)
    assert [event.request_id for event in events] == [request.request_id]


async def test_a_live_worker_with_an_odd_row_keeps_its_requests(bench: Bench) -> None:
    """Another release may write its row in another way."""
    await bench.row("odd")
    claim = await bench.claimed_by("odd")
    wrong = Update(table=WORKERS, key="odd", sets={"Concurrency": {"S": "many"}})
    await bench.world.engine.inner.update(wrong)
    assert await bench.step() == 0
    assert await bench.status(claim) is PROCESSING


async def test_only_a_leaders_sweeps_are_counted(bench: Bench) -> None:
    """Other workers judge the leader by this count."""
    for view in (LEADER, FOLLOWER, LEADER):
        bench.time.advance(LEASE)
        await bench.step(view)
    assert bench.rescuer.sweeps == 2


@virtual_time
async def test_a_consumer_that_is_gone_costs_an_attempt(world: World) -> None:
    """No worker was lost, so nothing counts as a rescue."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    claim = await bench.claimed_by(None)
    await anyio.sleep(601)
    assert await bench.step() == 1
    stored = await world.get(claim)
    assert (stored.retry_count, stored.rescues) == (1, 0)


@virtual_time
async def test_a_running_request_of_a_worker_is_no_other_consumers(world: World) -> None:
    """However long it runs: `foreign_claim_timeout` concerns requests without a WorkerID."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    await world.stores.workers.register(WorkerRow(worker_id="other", started_at=START))
    claim = await bench.claimed_by("other")
    await anyio.sleep(86400)
    assert await bench.step() == 0
    assert await bench.status(claim) is PROCESSING


async def test_another_consumers_request_of_unknown_age_is_checked(world: World) -> None:
    """The whole request decides: an entry whose CreatedAt cannot be read may be old."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    started = {"S": "2020-01-01T00:00:00Z"}
    await world.put_raw(
        **running_item("odd", CreatedAt={"S": "0001-01-01T00:00:00Z"}, ProcessingStarted=started)
    )
    assert await bench.step() == 1
    assert (await world.stores.requests.get("odd")).status is RETRYING


async def test_a_lost_request_survives_as_many_rescues_as_the_settings_say(bench: Bench) -> None:
    """With `max_rescues` 9, the sixth loss in probation does not end it."""
    bench.rescuer._max_rescues = 9
    name = "lost"
    await bench.world.put_raw(
        **running_item(
            name,
            WorkerID={"S": "nobody"},
            Version={"S": "v"},
            Alone={"S": "v"},
            Rescues={"N": "5"},
            Solo={"N": "3"},
        )
    )
    assert await bench.step() == 1
    stored = await bench.world.stores.requests.get(name)
    assert (stored.status, stored.rescues, stored.solo) == (RETRYING, 6, 4)
