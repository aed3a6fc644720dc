"""The heartbeat: the row, the mailbox, the fleet, and when a worker fences itself."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from streamer_store import AlreadyExists, Clock, StoreUnavailable, WorkerRow
from streamer_worker.events import FleetObserved, HeartbeatTried, StepFailed
from streamer_worker.fleet.heartbeat import Heartbeat, WorkerStatus
from streamer_worker.fleet.view import FleetView
from streamer_worker.settings import PresenceSettings
from support import START, ManualClock
from unit.worker.harness import World, virtual_time

pytestmark = pytest.mark.anyio

HEARTBEAT = 4.0
LEASE = 16.0
MARGIN = 2.0
MANY = 10**6


class RecordingListener:
    """Records the calls of the heartbeat."""

    def __init__(self) -> None:
        self.views: list[FleetView] = []
        self.cancelled: list[frozenset[str]] = []
        self.drained = 0
        self.fenced: list[str] = []
        self.paused: list[bool] = []
        self.heartbeats_at: list[float] = []

    def on_heartbeat(self, began: float) -> None:
        self.heartbeats_at.append(began)

    def on_fleet_view(self, view: FleetView) -> None:
        self.views.append(view)

    def cancel(self, versions: frozenset[str]) -> None:
        self.cancelled.append(versions)

    def drain(self) -> None:
        self.drained += 1

    def fence(self, reason: str, *, paused: bool) -> None:
        self.fenced.append(reason)
        self.paused.append(paused)


class Bench:
    """The heartbeat of `me`, on a manual clock unless another is given."""

    def __init__(self, world: World, clock: Clock | None = None) -> None:
        self.world = world
        self.time = ManualClock()
        self.listener = RecordingListener()
        self.worker_status = WorkerStatus()
        self.cpu = 0.0
        self.heartbeat = Heartbeat(
            row=WorkerRow(worker_id="me", started_at=START),
            workers=world.stores.workers,
            settings=PresenceSettings(heartbeat=HEARTBEAT, lease=LEASE),
            worker_status=lambda: self.worker_status,
            listener=self.listener,
            events=world.events,
            clock=clock or self.time,
            cpu=lambda: self.cpu,
        )

    async def steps(self, times: int = 1) -> None:
        """Make one step per heartbeat, as the loop does."""
        for _ in range(times):
            self.time.advance(HEARTBEAT)
            await self.heartbeat.step()

    async def row(self) -> WorkerRow:
        rows = await self.world.stores.workers.list()
        return next(row for row in rows if row.worker_id == "me")

    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.world.recorder.of(HeartbeatTried)]

    def dead(self) -> list[str]:
        return [row.worker_id for row in self.listener.views[-1].dead]


async def registered(world: World, *, others: int = 0, clock: Clock | None = None) -> Bench:
    """Register `me` in a fleet of `others` without heartbeats."""
    for number in range(others):
        row = WorkerRow(worker_id=f"other-{number}", started_at=START)
        await world.stores.workers.register(row)
    bench = Bench(world, clock)
    await bench.heartbeat.register()
    return bench


@pytest.fixture
async def bench(world: World) -> Bench:
    return await registered(world)


async def test_registering_writes_the_row_and_reads_the_fleet(world: World) -> None:
    """The worker knows its fleet before its first claim."""
    bench = await registered(world, others=1)
    (view,) = bench.listener.views
    assert [row.worker_id for row in view.live] == ["me", "other-0"]
    assert world.recorder.of(FleetObserved) == [FleetObserved(live=2, dead=0, leads=True)]


@virtual_time
@pytest.mark.parametrize("operation", ["put", "scan"])
@pytest.mark.parametrize("lands", [False, True], ids=["not-landed", "answer-lost"])
async def test_a_slow_answer_does_not_end_a_start(
    operation: str, world: World, *, lands: bool
) -> None:
    """Each call is tried again for the length of a lease."""
    world.engine.fail(operation, times=3, lands=lands)
    bench = await registered(world, clock=world.clock)
    assert [row.worker_id for row in bench.listener.views[-1].live] == ["me"]
    assert [event.loop for event in world.recorder.of(StepFailed)] == ["register"] * 3


@virtual_time
@pytest.mark.parametrize("operation", ["put", "scan"])
async def test_an_outage_at_registering_is_raised(operation: str, world: World) -> None:
    """A worker does not start unless its row is written and the fleet is read."""
    world.engine.fail(operation, times=MANY)
    began = world.clock.steady()
    with pytest.raises(StoreUnavailable):
        await Bench(world, world.clock).heartbeat.register()
    assert world.clock.steady() - began == LEASE


async def test_an_id_that_is_taken_is_raised(world: World) -> None:
    """Two workers never share a row."""
    await world.stores.workers.register(WorkerRow(worker_id="me", started_at=START, pid=7))
    with pytest.raises(AlreadyExists):
        await Bench(world).heartbeat.register()


async def test_a_heartbeat_is_counted_and_writes_the_status(bench: Bench) -> None:
    """The row shows the status of the last heartbeat."""
    await bench.steps()
    bench.worker_status = WorkerStatus(in_flight=3, draining=True, sweeps=7)
    await bench.steps()
    row = await bench.row()
    assert (row.beat, row.in_flight, row.draining, row.sweeps) == (2, 3, True, 7)
    assert bench.outcomes() == ["ok", "ok"]


async def test_a_successful_heartbeat_is_reported_by_its_beginning(bench: Bench) -> None:
    """Other workers may have read it at any time since."""
    began = bench.time.steady()
    fault = bench.world.engine.hold("update")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.heartbeat.step)
        await fault.wait_reached()
        bench.time.advance(3)
        fault.let_go()
    assert bench.listener.heartbeats_at == [began]


async def test_the_pause_is_what_is_left_of_the_heartbeat(bench: Bench) -> None:
    """A slow heartbeat shortens the pause after it, at most to 0."""
    await bench.steps()
    assert bench.heartbeat.pause(None) == HEARTBEAT
    bench.time.advance(1)
    assert bench.heartbeat.pause(None) == HEARTBEAT - 1
    bench.time.advance(60)
    assert bench.heartbeat.pause(None) == 0


async def test_the_time_before_registration_does_not_count(world: World) -> None:
    """No worker can be declared dead before it has a row."""
    bench = Bench(world)
    bench.time.advance(3600)
    await bench.heartbeat.register()
    await bench.steps()
    assert bench.listener.fenced == []


async def test_a_long_pause_fences_before_the_heartbeat_is_sent(bench: Bench) -> None:
    """Nothing is written after it. Shorter pauses do not fence."""
    bench.time.advance(LEASE - MARGIN)
    await bench.heartbeat.step()
    assert bench.listener.fenced == []
    bench.world.engine.calls.clear()
    bench.time.advance(LEASE - MARGIN + 0.1)
    for _ in range(3):
        await bench.heartbeat.step()
        bench.time.advance(HEARTBEAT)
    assert bench.listener.fenced == [
        "it was paused or starved, and has had no heartbeat for 14.1 s"
    ]
    assert bench.world.engine.calls == []


@pytest.mark.parametrize(("operation", "read"), [("update", 0), ("scan", 1)])
async def test_a_pause_within_a_step_fences(operation: str, read: int, bench: Bench) -> None:
    """It is noticed after a slow heartbeat, whose answer is ignored, or after a slow read."""
    await bench.world.stores.workers.request_drain("me")
    fault = bench.world.engine.hold(operation)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.heartbeat.step)
        await fault.wait_reached()
        bench.time.advance(LEASE)
        fault.let_go()
    assert bench.listener.fenced == [
        "it was paused or starved, and has had no heartbeat for 16.0 s"
    ]
    assert (bench.listener.drained, len(bench.listener.heartbeats_at)) == (read, read)
    bench.world.engine.calls.clear()
    await bench.steps()
    assert bench.world.engine.calls == []


@pytest.mark.parametrize(
    ("share", "paused"), [(0.0, True), (0.09, True), (0.11, False), (1, False)]
)
async def test_a_worker_that_used_hardly_any_cpu_was_paused(
    share: float, bench: Bench, *, paused: bool
) -> None:
    """One that used CPU since its last heartbeat was starved, perhaps by a request."""
    bench.cpu = 1000.0
    await bench.steps()
    bench.time.advance(20)
    bench.cpu += share * 20
    await bench.heartbeat.step()
    assert bench.listener.paused == [paused]


async def test_a_row_that_was_removed_fences(bench: Bench) -> None:
    """Others may run its requests already. The row is not written again."""
    await bench.heartbeat.remove()
    await bench.steps(3)
    assert bench.listener.fenced == ["its row was removed"]
    assert bench.outcomes() == ["gone"]
    assert await bench.world.stores.workers.list() == []


@pytest.mark.parametrize("lands", [False, True], ids=["not-landed", "answer-lost"])
async def test_an_outage_does_not_fence(bench: Bench, *, lands: bool) -> None:
    """However long it lasts, because the other workers cannot read the table. Events say why."""
    error = StoreUnavailable("the table is away")
    bench.world.engine.fail("update", error, times=MANY, lands=lands)
    bench.world.engine.fail("scan", times=MANY)
    await bench.steps(900)
    assert (bench.listener.fenced, bench.listener.heartbeats_at) == ([], [])
    tried = bench.world.recorder.of(HeartbeatTried)
    assert {(event.outcome, event.error) for event in tried} == {("failed", error)}


@virtual_time
@pytest.mark.parametrize("operation", ["update", "scan"])
async def test_a_call_that_hangs_is_cancelled_after_a_heartbeat(
    operation: str, world: World
) -> None:
    """The next call may succeed. A call that hangs does not fence."""
    bench = await registered(world, clock=world.clock)
    world.engine.hold(operation, times=20)
    for _ in range(20):
        with anyio.fail_after(HEARTBEAT + 1):
            await bench.heartbeat.step()
    await bench.heartbeat.step()
    assert bench.listener.fenced == []
    assert len(bench.listener.views) == (2 if operation == "scan" else 22)
    *tried, last = world.recorder.of(HeartbeatTried)
    if operation == "update":
        assert {(type(event.error), event.seconds) for event in tried} == {
            (TimeoutError, HEARTBEAT)
        }
    assert last.outcome == "ok"


async def test_cancellations_are_passed_on_and_acknowledged(bench: Bench) -> None:
    """The next heartbeat removes the Versions that were handled, and keeps newer ones."""
    workers = bench.world.stores.workers
    await workers.request_cancel("me", "v1")
    await bench.steps()
    assert bench.listener.cancelled == [{"v1"}]
    await workers.request_cancel("me", "v2")
    await bench.steps()
    assert bench.listener.cancelled == [{"v1"}, {"v2"}]
    await bench.steps()
    assert bench.listener.cancelled == [{"v1"}, {"v2"}]
    assert (await bench.row()).cancel == frozenset()


async def test_a_failed_heartbeat_loses_no_mail(bench: Bench) -> None:
    """Only handled Versions leave the mailbox, whether the write succeeded or not."""
    await bench.world.stores.workers.request_cancel("me", "v1")
    bench.world.engine.fail("update", lands=True)
    await bench.steps()
    assert bench.listener.cancelled == []
    await bench.steps()
    bench.world.engine.fail("update")
    await bench.steps(2)
    assert bench.listener.cancelled == [{"v1"}]
    assert (await bench.row()).cancel == frozenset()


async def test_a_drain_order_is_passed_on_once(bench: Bench) -> None:
    """It leaves the mailbox. The same order again has no effect."""
    workers = bench.world.stores.workers
    await workers.request_drain("me")
    await bench.steps(2)
    assert not (await bench.row()).drain
    await workers.request_drain("me")
    await bench.steps(2)
    assert bench.listener.drained == 1


@pytest.mark.parametrize("operations", [("update", "scan"), ("scan",)])
async def test_an_outage_declares_no_worker_dead(operations: tuple[str, ...], world: World) -> None:
    """All timers restart after a time in which the fleet was not read."""
    bench = await registered(world, others=1)
    for operation in operations:
        world.engine.fail(operation, times=MANY)
    await bench.steps(900)
    world.engine.heal()
    await bench.steps()
    assert (len(bench.listener.views), bench.dead(), bench.listener.fenced) == (2, [], [])
    await bench.steps(3)
    assert bench.dead() == []
    await bench.steps()
    assert bench.dead() == ["other-0"]


@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize(
    ("others", "heartbeats_per_read"), [(1, 1), (29, 1), (30, 2), (64, 3), (130, 5)]
)
async def test_large_fleets_are_read_less_often(
    others: int, heartbeats_per_read: int, world: World, *, leads: bool
) -> None:
    """So the cost of reading does not grow with the square of the fleet. Dead workers are still
    found. The leader reads at each heartbeat, because all wait for its rescues.
    """
    age = timedelta(hours=-1 if leads else 1)
    await world.stores.workers.register(WorkerRow(worker_id="peer", started_at=START - age))
    bench = await registered(world, others=others)
    reads: list[int] = []
    for beat in range(1, 13):
        await world.stores.workers.beat("peer", in_flight=0, draining=False, sweeps=beat)
        bench.worker_status.sweeps = beat
        await bench.steps()
        reads.append(len(bench.listener.views) - 1)
    every = 1 if leads else heartbeats_per_read
    assert reads == [beat // every for beat in range(1, 13)]
    assert world.recorder.of(FleetObserved)[-1] == FleetObserved(live=2, dead=others, leads=leads)


async def test_a_worker_whose_heartbeats_fail_declares_no_worker_dead(world: World) -> None:
    """Writes may be throttled while reads are not, for the other workers too."""
    bench = await registered(world, others=1)
    world.engine.fail("update", times=MANY)
    await bench.steps(100)
    assert bench.dead() == []
    world.engine.heal()
    await bench.steps(int(LEASE / HEARTBEAT) - 1)
    assert bench.dead() == []
    await bench.steps()
    assert bench.dead() == ["other-0"]


@pytest.mark.parametrize("pauses", [(12.0, 12.0), (8.5, 4.0, 4.0)])
async def test_pauses_add_up_while_heartbeats_fail(bench: Bench, pauses: tuple[float, ...]) -> None:
    """Each pause alone would not fence. Together they may outlast the lease."""
    bench.world.engine.fail("update", times=MANY)
    for pause in pauses:
        assert bench.listener.fenced == []
        bench.time.advance(pause)
        await bench.heartbeat.step()
    assert len(bench.listener.fenced) == 1


async def test_the_lease_counts_from_the_beginning_of_the_registration(bench: Bench) -> None:
    """Others may have seen the row at any time since, and for no longer than a lease."""
    await bench.heartbeat.remove()
    fault = bench.world.engine.hold("put")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.heartbeat.register)
        await fault.wait_reached()
        bench.time.advance(5)
        fault.let_go()
    bench.time.advance(LEASE - MARGIN - 5 + 0.1)
    await bench.heartbeat.step()
    assert bench.listener.fenced == [
        "it was paused or starved, and has had no heartbeat for 14.1 s"
    ]


async def test_a_slow_registration_is_no_pause(bench: Bench) -> None:
    """The table answered slowly, so the outage after it does not fence."""
    await bench.heartbeat.remove()
    fault = bench.world.engine.hold("put")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.heartbeat.register)
        await fault.wait_reached()
        bench.time.advance(10)
        fault.let_go()
    bench.world.engine.fail("update", times=MANY)
    await bench.steps(10)
    assert bench.listener.fenced == []


async def test_the_lease_counts_from_the_beginning_of_the_last_heartbeat(bench: Bench) -> None:
    """The time that its answer took is part of the lease."""
    fault = bench.world.engine.hold("update")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.heartbeat.step)
        await fault.wait_reached()
        bench.time.advance(5)
        fault.let_go()
    assert bench.listener.fenced == []
    bench.time.advance(LEASE - MARGIN - 5 + 0.1)
    await bench.heartbeat.step()
    assert len(bench.listener.fenced) == 1


async def test_a_pause_before_a_successful_heartbeat_no_longer_counts(bench: Bench) -> None:
    """Others have seen that heartbeat, so an outage after it does not fence."""
    bench.time.advance(LEASE - MARGIN)
    await bench.heartbeat.step()
    bench.world.engine.fail("update", times=MANY)
    await bench.steps(10)
    assert bench.listener.fenced == []


async def test_a_cancellation_that_is_repeated_is_passed_on_again(bench: Bench) -> None:
    """A Version that was handled once leaves the mailbox once, and not whenever it comes."""
    workers = bench.world.stores.workers
    await workers.request_cancel("me", "v1")
    await bench.steps(2)
    await workers.request_cancel("me", "v1")
    await bench.steps()
    assert bench.listener.cancelled == [{"v1"}, {"v1"}]


@virtual_time
async def test_removing_the_row_is_given_up_after_four_seconds(world: World) -> None:
    """A table that does not answer does not hold up the end of the worker."""
    bench = await registered(world, clock=world.clock)
    world.engine.hold("delete")
    with pytest.raises(TimeoutError):
        await bench.heartbeat.remove()
    assert world.clock.steady() == 4
