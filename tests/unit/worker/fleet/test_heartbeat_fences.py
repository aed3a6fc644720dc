"""When a worker fences itself, and when it declares others dead."""

from __future__ import annotations

import pytest

from streamer_store import StoreUnavailable
from streamer_worker.events import HeartbeatTried
from unit.worker.fleet.heartbeat_bench import (
    HEARTBEAT,
    LEASE,
    MANY,
    MARGIN,
    Bench,
    bench,
    registered,
)
from unit.worker.harness import World

__all__ = ["bench"]
pytestmark = pytest.mark.anyio


async def test_a_long_pause_fences_before_the_heartbeat_is_sent(bench: Bench) -> None:
    """Nothing is written after it. Shorter pauses do not fence. Proves LEASE-2."""
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
    """It is noticed after a slow heartbeat, whose answer is ignored, or after a slow read.

    Proves LEASE-2.
    """
    await bench.world.stores.workers.request_drain("me")
    await bench.slow(operation, bench.heartbeat.step, LEASE)
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
    """Others may run its requests already. The row is not written again. Proves LEASE-2."""
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


@pytest.mark.parametrize("operations", [("update", "scan"), ("scan",)])
async def test_an_outage_declares_no_worker_dead(operations: tuple[str, ...], world: World) -> None:
    """All timers restart after a time in which the fleet was not read. Proves LEASE-4."""
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


async def test_a_worker_whose_heartbeats_fail_declares_no_worker_dead(world: World) -> None:
    """Writes may be throttled while reads are not, for the other workers too. Proves LEASE-4."""
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
    """Each pause alone would not fence. Together they may outlast the lease. Proves LEASE-2."""
    bench.world.engine.fail("update", times=MANY)
    for pause in pauses:
        assert bench.listener.fenced == []
        bench.time.advance(pause)
        await bench.heartbeat.step()
    assert len(bench.listener.fenced) == 1
