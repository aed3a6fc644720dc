"""The worker's row: beats, mail, and taking oneself for dead."""

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

BEAT = 4.0
LEASE = 16.0
MARGIN = 2.0
MANY = 10**6


class Told:
    """Orders that are only remembered."""

    def __init__(self) -> None:
        self.views: list[FleetView] = []
        self.cancelled: list[frozenset[str]] = []
        self.drained = 0
        self.fenced: list[str] = []
        self.paused: list[bool] = []
        self.beaten_at: list[float] = []

    def on_heartbeat(self, began: float) -> None:
        self.beaten_at.append(began)

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
    """The presence of `me`, on a clock that is moved by hand unless another is given."""

    def __init__(self, world: World, clock: Clock | None = None) -> None:
        self.world = world
        self.time = ManualClock()
        self.told = Told()
        self.worker_status = WorkerStatus()
        self.cpu = 0.0
        self.presence = Heartbeat(
            row=WorkerRow(worker_id="me", started_at=START),
            workers=world.stores.workers,
            settings=PresenceSettings(heartbeat=BEAT, lease=LEASE),
            worker_status=lambda: self.worker_status,
            listener=self.told,
            events=world.events,
            clock=clock or self.time,
            cpu=lambda: self.cpu,
        )

    async def beat(self, times: int = 1) -> None:
        """Beat each heartbeat, as the loop does."""
        for _ in range(times):
            self.time.advance(BEAT)
            await self.presence.step()

    async def row(self) -> WorkerRow:
        rows = await self.world.stores.workers.list()
        return next(each for each in rows if each.worker_id == "me")

    def outcomes(self) -> list[str]:
        return [each.outcome for each in self.world.recorder.of(HeartbeatTried)]

    def dead(self) -> list[str]:
        return [each.worker_id for each in self.told.views[-1].dead]


async def registered(world: World, *, others: int = 0, clock: Clock | None = None) -> Bench:
    """Register `me` in a fleet of `others`, who never beat."""
    for number in range(others):
        row = WorkerRow(worker_id=f"other-{number}", started_at=START)
        await world.stores.workers.register(row)
    made = Bench(world, clock)
    await made.presence.register()
    return made


@pytest.fixture
async def bench(world: World) -> Bench:
    return await registered(world)


async def test_registering_writes_the_row_and_looks_once(world: World) -> None:
    """The worker knows its fleet before its first claim."""
    bench = await registered(world, others=1)
    (view,) = bench.told.views
    assert [each.worker_id for each in view.live] == ["me", "other-0"]
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
    assert [each.worker_id for each in bench.told.views[-1].live] == ["me"]
    assert [each.loop for each in world.recorder.of(StepFailed)] == ["register"] * 3


@virtual_time
@pytest.mark.parametrize("operation", ["put", "scan"])
async def test_an_outage_at_registering_is_raised(operation: str, world: World) -> None:
    """Whether the row cannot be written or the fleet not read: no worker starts blind."""
    world.engine.fail(operation, times=MANY)
    began = world.clock.steady()
    with pytest.raises(StoreUnavailable):
        await Bench(world, world.clock).presence.register()
    assert LEASE / 2 <= world.clock.steady() - began <= LEASE


async def test_an_id_that_is_taken_is_raised(world: World) -> None:
    """Two workers never share a row."""
    await world.stores.workers.register(WorkerRow(worker_id="me", started_at=START, pid=7))
    with pytest.raises(AlreadyExists):
        await Bench(world).presence.register()


async def test_a_beat_is_counted_and_carries_the_vitals(bench: Bench) -> None:
    """What others see of the worker is as old as its last beat."""
    await bench.beat()
    bench.worker_status = WorkerStatus(in_flight=3, draining=True, sweeps=7)
    await bench.beat()
    row = await bench.row()
    assert (row.beat, row.in_flight, row.draining, row.sweeps) == (2, 3, True, 7)
    assert bench.outcomes() == ["ok", "ok"]


async def test_a_beat_that_succeeded_is_told_by_its_beginning(bench: Bench) -> None:
    """What others saw of it may be as old as that."""
    began = bench.time.steady()
    fault = bench.world.engine.hold("update")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.presence.step)
        await fault.wait_reached()
        bench.time.advance(3)
        fault.let_go()
    assert bench.told.beaten_at == [began]


async def test_the_pause_is_what_is_left_of_the_heartbeat(bench: Bench) -> None:
    """A slow beat shortens the pause after it, to nothing at most."""
    await bench.beat()
    assert bench.presence.pause(None) == BEAT
    bench.time.advance(1)
    assert bench.presence.pause(None) == BEAT - 1
    bench.time.advance(60)
    assert bench.presence.pause(None) == 0


async def test_the_time_before_it_had_a_row_does_not_count(world: World) -> None:
    """Nobody can give up whom he cannot see."""
    bench = Bench(world)
    bench.time.advance(3600)
    await bench.presence.register()
    await bench.beat()
    assert bench.told.fenced == []


async def test_a_long_pause_fences_before_the_beat_is_sent(bench: Bench) -> None:
    """A beat would say that it lives; afterwards nothing is done. Shorter ones do no harm."""
    bench.time.advance(LEASE - MARGIN)
    await bench.presence.step()
    assert bench.told.fenced == []
    bench.world.engine.calls.clear()
    bench.time.advance(LEASE - MARGIN + 0.1)
    for _ in range(3):
        await bench.presence.step()
        bench.time.advance(BEAT)
    assert bench.told.fenced == ["it was paused or starved, and has had no heartbeat for 14.1 s"]
    assert bench.world.engine.calls == []


@pytest.mark.parametrize(("operation", "read"), [("update", 0), ("scan", 1)])
async def test_a_pause_within_a_step_fences(operation: str, read: int, bench: Bench) -> None:
    """It is noticed after a slow beat, whose answer does not count any more, or a slow look."""
    await bench.world.stores.workers.request_drain("me")
    fault = bench.world.engine.hold(operation)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.presence.step)
        await fault.wait_reached()
        bench.time.advance(LEASE)
        fault.let_go()
    assert bench.told.fenced == ["it was paused or starved, and has had no heartbeat for 16.0 s"]
    assert (bench.told.drained, len(bench.told.beaten_at)) == (read, read)
    bench.world.engine.calls.clear()
    await bench.beat()
    assert bench.world.engine.calls == []


@pytest.mark.parametrize(
    ("share", "paused"), [(0.0, True), (0.09, True), (0.11, False), (1, False)]
)
async def test_a_worker_that_used_hardly_any_cpu_was_paused(
    share: float, bench: Bench, *, paused: bool
) -> None:
    """One that was starved has used it: by a request, perhaps. Counted from the last heartbeat."""
    bench.cpu = 1000.0
    await bench.beat()
    bench.time.advance(20)
    bench.cpu += share * 20
    await bench.presence.step()
    assert bench.told.paused == [paused]


async def test_a_row_that_was_removed_fences(bench: Bench) -> None:
    """Others may run its requests already; the row is not made again."""
    await bench.presence.remove()
    await bench.beat(3)
    assert bench.told.fenced == ["its row was removed"]
    assert bench.outcomes() == ["gone"]
    assert await bench.world.stores.workers.list() == []


@pytest.mark.parametrize("lands", [False, True], ids=["not-landed", "answer-lost"])
async def test_an_outage_does_not_fence(bench: Bench, *, lands: bool) -> None:
    """For as long as it lasts: nobody else can look either. The events say why."""
    error = StoreUnavailable("the table is away")
    bench.world.engine.fail("update", error, times=MANY, lands=lands)
    bench.world.engine.fail("scan", times=MANY)
    await bench.beat(900)
    assert (bench.told.fenced, bench.told.beaten_at) == ([], [])
    tried = bench.world.recorder.of(HeartbeatTried)
    assert {(each.outcome, each.error) for each in tried} == {("failed", error)}


@virtual_time
@pytest.mark.parametrize("operation", ["update", "scan"])
async def test_what_hangs_is_given_up_after_a_heartbeat(operation: str, world: World) -> None:
    """The next one may get through; hanging is trying, and does not fence."""
    bench = await registered(world, clock=world.clock)
    world.engine.hold(operation, times=20)
    for _ in range(20):
        with anyio.fail_after(BEAT + 1):
            await bench.presence.step()
    await bench.presence.step()
    assert bench.told.fenced == []
    assert len(bench.told.views) == (2 if operation == "scan" else 22)
    *tried, last = world.recorder.of(HeartbeatTried)
    if operation == "update":
        assert {(type(each.error), each.seconds) for each in tried} == {(TimeoutError, BEAT)}
    assert last.outcome == "ok"


async def test_cancellations_are_handed_over_and_acknowledged(bench: Bench) -> None:
    """The next beat takes out what was handled, and leaves what came meanwhile."""
    workers = bench.world.stores.workers
    await workers.request_cancel("me", "v1")
    await bench.beat()
    assert bench.told.cancelled == [{"v1"}]
    await workers.request_cancel("me", "v2")
    await bench.beat()
    assert bench.told.cancelled == [{"v1"}, {"v2"}]
    await bench.beat()
    assert bench.told.cancelled == [{"v1"}, {"v2"}]
    assert (await bench.row()).cancel == frozenset()


async def test_a_beat_that_fails_loses_no_mail(bench: Bench) -> None:
    """Only what was handed over leaves the mailbox, whether the beat took effect or not."""
    await bench.world.stores.workers.request_cancel("me", "v1")
    bench.world.engine.fail("update", lands=True)
    await bench.beat()
    assert bench.told.cancelled == []
    await bench.beat()
    bench.world.engine.fail("update")
    await bench.beat(2)
    assert bench.told.cancelled == [{"v1"}]
    assert (await bench.row()).cancel == frozenset()


async def test_a_drain_order_is_given_once(bench: Bench) -> None:
    """It leaves the mailbox, and the same order again changes nothing."""
    workers = bench.world.stores.workers
    await workers.request_drain("me")
    await bench.beat(2)
    assert not (await bench.row()).drain
    await workers.request_drain("me")
    await bench.beat(2)
    assert bench.told.drained == 1


@pytest.mark.parametrize("operations", [("update", "scan"), ("scan",)])
async def test_an_outage_kills_nobody(operations: tuple[str, ...], world: World) -> None:
    """A time in which nobody looked proves nothing: all stopwatches start again."""
    bench = await registered(world, others=1)
    for operation in operations:
        world.engine.fail(operation, times=MANY)
    await bench.beat(900)
    world.engine.heal()
    await bench.beat()
    assert (len(bench.told.views), bench.dead(), bench.told.fenced) == (2, [], [])
    await bench.beat(3)
    assert bench.dead() == []
    await bench.beat()
    assert bench.dead() == ["other-0"]


@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize(
    ("others", "beats_per_look"), [(1, 1), (29, 1), (30, 2), (64, 3), (130, 5)]
)
async def test_large_fleets_look_less_often(
    others: int, beats_per_look: int, world: World, *, leads: bool
) -> None:
    """The cost of looking must not grow with their square; the dead are found all the same. Who
    leads looks at each beat, since all wait for its rescues.
    """
    age = timedelta(hours=-1 if leads else 1)
    await world.stores.workers.register(WorkerRow(worker_id="peer", started_at=START - age))
    bench = await registered(world, others=others)
    looks: list[int] = []
    for beat in range(1, 13):
        await world.stores.workers.beat("peer", in_flight=0, draining=False, sweeps=beat)
        bench.worker_status.sweeps = beat
        await bench.beat()
        looks.append(len(bench.told.views) - 1)
    every = 1 if leads else beats_per_look
    assert looks == [beat // every for beat in range(1, 13)]
    assert world.recorder.of(FleetObserved)[-1] == FleetObserved(live=2, dead=others, leads=leads)


async def test_who_cannot_beat_takes_nobody_for_dead(world: World) -> None:
    """Writes may be throttled while reads are not: then the silence of others proves nothing."""
    bench = await registered(world, others=1)
    world.engine.fail("update", times=MANY)
    await bench.beat(100)
    assert bench.dead() == []
    world.engine.heal()
    await bench.beat(int(LEASE / BEAT) - 1)
    assert bench.dead() == []
    await bench.beat()
    assert bench.dead() == ["other-0"]


@pytest.mark.parametrize("pauses", [(12.0, 12.0), (8.5, 4.0, 4.0)])
async def test_pauses_add_up_while_no_beat_succeeds(
    bench: Bench, pauses: tuple[float, ...]
) -> None:
    """Each alone would do no harm; together the others may have given it up."""
    bench.world.engine.fail("update", times=MANY)
    for pause in pauses:
        assert bench.told.fenced == []
        bench.time.advance(pause)
        await bench.presence.step()
    assert len(bench.told.fenced) == 1
