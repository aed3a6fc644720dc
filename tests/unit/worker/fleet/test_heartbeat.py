"""The heartbeat: the row, the mailbox and the fleet."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from streamer_store import AlreadyExists, StoreUnavailable, WorkerRow
from streamer_worker.events import FleetObserved, HeartbeatTried, StepFailed
from streamer_worker.fleet.heartbeat import WorkerStatus
from support import START
from unit.worker.fleet.heartbeat_bench import (
    HEARTBEAT,
    LEASE,
    MANY,
    MARGIN,
    Bench,
    bench,
    registered,
)
from unit.worker.harness import World, virtual_time

__all__ = ["bench"]
pytestmark = pytest.mark.anyio


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
    await bench.slow("update", bench.heartbeat.step, 3)
    assert bench.listener.heartbeats_at == [began]


async def test_silence_counts_from_the_beginning_of_a_heartbeat(bench: Bench) -> None:
    """Other workers may have read it long before its answer arrived. Proves LEASE-2."""
    await bench.slow("update", bench.heartbeat.step, 3)
    bench.time.advance(LEASE - MARGIN - 2)
    await bench.heartbeat.step()
    assert bench.listener.fenced == [
        "it was paused or starved, and has had no heartbeat for 15.0 s"
    ]


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
    # The other heartbeats read the row of pauses.
    assert len(bench.listener.pauses) == 12 - reads[-1]


async def test_the_lease_counts_from_the_beginning_of_the_registration(bench: Bench) -> None:
    """Others may have seen the row at any time since, and for no longer than a lease."""
    await bench.heartbeat.remove()
    await bench.slow("put", bench.heartbeat.register, 5)
    bench.time.advance(LEASE - MARGIN - 5 + 0.1)
    await bench.heartbeat.step()
    assert bench.listener.fenced == [
        "it was paused or starved, and has had no heartbeat for 14.1 s"
    ]


async def test_a_slow_registration_is_no_pause(bench: Bench) -> None:
    """The table answered slowly, so the outage after it does not fence."""
    await bench.heartbeat.remove()
    await bench.slow("put", bench.heartbeat.register, 10)
    bench.world.engine.fail("update", times=MANY)
    await bench.steps(10)
    assert bench.listener.fenced == []


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
