"""Taking requests from workers that are gone."""

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
FOLLOWER = FleetView()
LEADER = FleetView(leads=True)
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
        """Return a request that has attempts left, claimed by that worker."""
        request = await self.world.enqueue(**{"max_retries": 3} | fields)
        candidate = await self.world.candidate(request)
        return await self.world.stores.requests.claim(candidate, worker_id=worker_id)

    async def row(self, worker_id: str) -> WorkerRow:
        row = WorkerRow(worker_id=worker_id, started_at=START)
        await self.world.stores.workers.register(row)
        return row

    async def rows(self) -> list[str]:
        return [each.worker_id for each in await self.world.stores.workers.list()]

    async def status(self, claim: Claim) -> RequestStatus:
        return (await self.world.get(claim)).status

    async def step(self, view: FleetView = LEADER) -> int:
        """Sweep; return how many were rescued."""
        return (await self.rescuer.step(view)).rescued


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)


async def test_the_leader_takes_what_a_dead_worker_had(bench: Bench) -> None:
    """It runs again after a short wait, with as many attempts as before, and says why."""
    dead = await bench.row("dead")
    claim = await bench.claimed_by("dead", retry_count=1)
    counts = await bench.rescuer.step(FleetView(dead=(dead,), leads=True))
    assert counts == RescueCounts(running=1, rescued=1, removed=1)
    stored = await bench.world.get(claim)
    assert (stored.status, stored.retry_count, stored.worker_id) == (RETRYING, 1, None)
    assert stored.rescues == 1
    assert (stored.error, stored.error_code) == ("its worker dead is gone", "WORKER_LOST")
    assert stored.retry_after is not None
    assert stored.retry_after <= bench.world.clock.now() + timedelta(seconds=2)
    (told,) = bench.world.recorder.of(RequestRescued)
    assert (told.request_id, told.action) == (claim.request_id, "echo")
    assert (told.worker_id, told.status) == ("dead", "RETRYING")


@virtual_time
async def test_a_request_that_kills_its_workers_comes_to_an_end(world: World) -> None:
    """The sixth worker, the last four lost while it was alone in probation. Connections are
    notified. Their workers' rows are gone already: then nobody knows when they were lost.
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
    told = bench.world.recorder.of(RequestRescued)
    assert [each.status for each in told] == [*["RETRYING"] * 5, "FAILED"]
    (message,) = bench.world.pushed
    assert isinstance(message, ErrorMessage)
    assert (message.request_id, message.connection_id) == (claim.request_id, "c1")
    assert (message.code, message.text) == ("WORKER_LOST", "its worker w5 is gone")


@virtual_time
@pytest.mark.parametrize(("seen_after", "solo"), [(59.0, 3), (61.0, 0)])
async def test_the_last_heartbeat_tells_whether_the_probation_was_over(
    seen_after: float, solo: int, world: World
) -> None:
    """Also when the row was removed by an earlier sweep, which then broke off."""
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
        await bench.step(FleetView(dead=(dead,), leads=True))
    assert await bench.rows() == []
    assert await bench.step() == 1
    stored = await world.get(claim)
    assert (stored.status, stored.rescues, stored.solo) == (RETRYING, 3, solo)


async def test_others_do_not_touch_what_is_not_theirs(bench: Bench) -> None:
    """Neither requests nor rows, whatever they see."""
    dead = await bench.row("dead")
    claims = [await bench.claimed_by(each) for each in ("dead", "nobody", None)]
    assert await bench.step(FleetView(dead=(dead,))) == 0
    assert {await bench.status(each) for each in claims} == {PROCESSING}
    assert await bench.rows() == ["dead"]


async def test_what_a_live_worker_has_is_left(bench: Bench) -> None:
    """Also while it drains."""
    live = await bench.row("live")
    claim = await bench.claimed_by("live")
    assert await bench.step(FleetView(live=(live,), leads=True)) == 0
    assert await bench.status(claim) is PROCESSING


async def test_a_worker_that_beats_again_is_left_alone(bench: Bench) -> None:
    """What counts is its row now; neither its requests nor its row go."""
    slow, idle = await bench.row("slow"), await bench.row("idle")
    claim = await bench.claimed_by("slow")
    for name in ("slow", "idle"):
        await bench.world.stores.workers.beat(name, in_flight=0, draining=False, sweeps=0)
    counts = await bench.rescuer.step(FleetView(dead=(slow, idle), leads=True))
    assert counts == RescueCounts(running=1)
    assert await bench.status(claim) is PROCESSING
    assert await bench.rows() == ["idle", "slow"]
    assert bench.world.recorder.of(DeadWorkerRemoved) == []


async def test_a_worker_that_comes_while_we_look_is_left(bench: Bench) -> None:
    """Requests are read before rows: whose claim is in the first has its row in the second."""
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
async def test_what_bears_our_id_and_is_not_in_our_memory_is_rescued(
    view: FleetView, bench: Bench
) -> None:
    """A claim whose answer was lost; what is in a slot runs on."""
    lost, held = await bench.claimed_by("me"), await bench.claimed_by("me")
    bench.slots.take(held.request_id)
    assert await bench.step(view) == 1
    assert (await bench.status(lost), await bench.status(held)) == (RETRYING, PROCESSING)
    stored = await bench.world.get(lost)
    assert (stored.retry_count, stored.rescues) == (1, 0)  # no worker was lost


async def test_others_look_for_their_own_once_in_a_lease(bench: Bench) -> None:
    """It costs two reads, for what hardly ever happens. A look that failed is made again."""
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
    """Unless `foreign_claim_timeout` is set, for ever."""
    bench = Bench(world)
    claim = await bench.claimed_by(None)
    await anyio.sleep(365 * 86400)
    assert await bench.step() == 0
    assert await bench.status(claim) is PROCESSING


@virtual_time
async def test_another_consumers_requests_are_rescued_after_their_time(world: World) -> None:
    """By the leader, counted from ProcessingStarted, however long they had waited before."""
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


async def test_a_consumer_that_writes_no_time_has_had_its_request_for_long(world: World) -> None:
    """Without ProcessingStarted, CreatedAt decides."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    await world.put_raw(**running_item("go"))
    assert await bench.step() == 1
    assert (await world.stores.requests.get("go")).status is RETRYING


async def test_what_cannot_be_read_does_not_stop_the_sweep(world: World) -> None:
    """A dead worker's is failed, saying so; another consumer's is left; the rest is rescued."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    odd = {"RetryCount": {"S": "many"}}
    await world.put_raw(**running_item("lost", WorkerID={"S": "nobody"}, **odd))
    await world.put_raw(**running_item("foreign", **odd))
    await world.put_raw(**running_item("broken", WorkerID={"N": "7"}, Version={"N": "1"}))
    claim = await bench.claimed_by("nobody")
    assert await bench.step() == 2
    assert await bench.status(claim) is RETRYING
    items = await world.engine.inner.get_many(REQUESTS, ["lost", "foreign", "broken"])
    assert [each["Status"]["S"] for each in items] == ["FAILED", "PROCESSING", "PROCESSING"]


async def test_a_write_that_dynamodb_refuses_does_not_stop_the_sweep(bench: Bench) -> None:
    """It is reported; the others are rescued."""
    odd, other = await bench.claimed_by("nobody"), await bench.claimed_by("nobody")
    refused = InvalidInput("refused")
    bench.world.engine.fail(
        "update", when=lambda update: update.key == odd.request_id, error=refused
    )
    assert await bench.step() == 1
    assert (await bench.status(odd), await bench.status(other)) == (PROCESSING, RETRYING)
    (told,) = bench.world.recorder.of(ItemUndecodable)
    assert (told.key, told.reason) == (odd.request_id, "refused")


@pytest.mark.parametrize("happens", ["complete", "delete"])
@pytest.mark.parametrize("before", ["get", "update"])
async def test_a_race_that_is_lost_is_not_counted(before: str, happens: str, bench: Bench) -> None:
    """Whoever wrote first has won; the others are rescued all the same."""
    claim, other = await bench.claimed_by("nobody"), await bench.claimed_by("nobody")
    fault = bench.world.engine.hold(
        before, when=lambda each: getattr(each, "key", each) == claim.request_id
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
    (told,) = bench.world.recorder.of(RequestRescued)
    assert told.request_id == other.request_id


@pytest.mark.parametrize("operation", ["query", "scan", "get", "update"])
async def test_an_outage_is_raised_as_it_is(operation: str, bench: Bench) -> None:
    """As the store's error, not a group of them; the sweep does not count."""
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


async def test_a_dead_worker_is_buried_before_it_is_robbed(bench: Bench) -> None:
    """Whoever comes back later has no row, knows it, and stops. What a failure in between
    leaves is nobody's, and rescued later.
    """
    view = FleetView(dead=(await bench.row("dead"),), leads=True)
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


async def test_a_claim_that_was_won_unheard_goes_back_as_it_was(bench: Bench) -> None:
    """Nobody ran it: no attempt is used, though it has none left."""
    request = await bench.world.enqueue(max_retries=0)
    bench.world.engine.fail("update", lands=True)
    assert await bench.claimer.claim_all([await bench.world.candidate(request)], print) == 0
    assert (await bench.world.get(request)).status is PROCESSING
    assert await bench.step(FOLLOWER) == 1
    stored = await bench.world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.PENDING, 0)
    told = bench.world.recorder.of(ClaimReleased)
    assert [each.request_id for each in told] == [request.request_id]


async def test_a_live_worker_whose_row_is_odd_is_not_robbed(bench: Bench) -> None:
    """Another release may write its row in another way."""
    await bench.row("odd")
    claim = await bench.claimed_by("odd")
    wrong = Update(table=WORKERS, key="odd", sets={"Concurrency": {"S": "many"}})
    await bench.world.engine.inner.update(wrong)
    assert await bench.step() == 0
    assert await bench.status(claim) is PROCESSING


async def test_only_a_leaders_sweeps_are_counted(bench: Bench) -> None:
    """By them the others see that the leader leads."""
    for view in (LEADER, FOLLOWER, LEADER):
        bench.time.advance(LEASE)
        await bench.step(view)
    assert bench.rescuer.sweeps == 2
