"""Deleting connections that have not pinged for a long time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from streamer_store import StaleSweep, StoreUnavailable
from streamer_store.engine import Put
from streamer_store.schema import CONNECTIONS
from streamer_worker.events import ClockJumped, ConnectionsReaped, ItemUndecodable
from streamer_worker.fleet.view import FleetView
from streamer_worker.maintenance.reaper import Reaper
from streamer_worker.settings import ReaperSettings
from support import START, connection
from unit.worker.benches import membership
from unit.worker.harness import World

pytestmark = pytest.mark.anyio

SILENCE = 7800.0


@pytest.fixture
def reaper(world: World) -> Reaper:
    return reaper_of(world)


def reaper_of(world: World, *, leads: bool = True, **settings: Any) -> Reaper:
    return Reaper(
        connections=world.stores.connections,
        settings=ReaperSettings(**settings),
        membership=membership(FleetView(worker_id="me", leads=leads)),
        runtime=world.runtime,
    )


async def connect(world: World, name: str, *, silent: float) -> None:
    heard = world.clock.now() - timedelta(seconds=silent)
    await world.stores.connections.save(
        connection(name, connected_at=heard - timedelta(hours=1), last_ping=heard)
    )


async def kept_connections(world: World) -> list[str]:
    connections = await world.stores.connections.list_by_user("u")
    return sorted(connection.connection_id for connection in connections)


async def test_stale_connections_are_deleted_and_others_kept(world: World, reaper: Reaper) -> None:
    """LastPing is compared with `stale_after` by the worker's own clock."""
    await connect(world, "old", silent=SILENCE + 60)
    await connect(world, "young", silent=SILENCE - 60)
    counts = await reaper.step()
    assert await kept_connections(world) == ["young"]
    assert counts == StaleSweep(found=1, deleted=1)


async def test_subscriptions_are_deleted_with_their_connection(
    world: World, reaper: Reaper
) -> None:
    """Nothing is pushed to them any more."""
    await connect(world, "old", silent=SILENCE + 60)
    await world.stores.subscriptions.subscribe("old", "r1")
    await reaper.step()
    assert await world.stores.subscriptions.get_by_request("r1") == []


async def test_a_sweep_is_reported_with_its_counts(world: World, reaper: Reaper) -> None:
    """The event says how many were found, deleted and kept."""
    for number in range(5):
        await connect(world, f"old{number}", silent=SILENCE + 60)
    await reaper.step()
    (event,) = world.recorder.of(ConnectionsReaped)
    assert (event.found, event.deleted, event.kept, event.undecodable) == (5, 5, 0, 0)
    assert event.dry_run is False
    assert event.seconds >= 0


async def test_a_connection_that_pings_meanwhile_is_kept(world: World, reaper: Reaper) -> None:
    """The deletion is conditional on the LastPing that was read. Proves LEADER-1."""
    await connect(world, "old", silent=SILENCE + 60)
    fault = world.engine.hold("delete")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reaper.step)
        await fault.wait_reached()
        await world.stores.connections.update_last_ping("old")
        fault.let_go()
    assert await kept_connections(world) == ["old"]
    (event,) = world.recorder.of(ConnectionsReaped)
    assert (event.found, event.deleted, event.kept) == (1, 0, 1)


async def test_a_dry_run_only_counts(world: World) -> None:
    """So an operator can check first."""
    await connect(world, "old", silent=SILENCE + 60)
    counts = await reaper_of(world, dry_run=True).step()
    assert await kept_connections(world) == ["old"]
    assert counts == StaleSweep(found=1)
    (event,) = world.recorder.of(ConnectionsReaped)
    assert event.dry_run is True


async def test_an_undecodable_connection_is_reported_and_kept(world: World, reaper: Reaper) -> None:
    """It does not stop the sweep."""
    await world.engine.inner.put(
        Put(table=CONNECTIONS, item={"ConnectionID": {"S": "odd"}, "LastPing": {"S": "0 o'clock"}})
    )
    await connect(world, "old", silent=SILENCE + 60)
    assert await reaper.step() == StaleSweep(found=1, deleted=1, undecodable=1)
    (event,) = world.recorder.of(ItemUndecodable)
    assert event.key == "odd"


async def test_an_outage_is_raised_to_the_loop(world: World, reaper: Reaper) -> None:
    """The loop reports it and tries again. No sweep is reported."""
    world.engine.fail("scan")
    with pytest.raises(StoreUnavailable):
        await reaper.step()
    assert world.recorder.of(ConnectionsReaped) == []


def test_the_pause_is_the_interval(world: World) -> None:
    """However many were found."""
    assert reaper_of(world, interval="10m").pause(StaleSweep(found=9)) == 600


def test_a_worker_that_does_not_lead_checks_again_soon(world: World) -> None:
    """A new leader does not wait for an interval before its first sweep."""
    assert reaper_of(world, interval="10m").pause(None) == 10
    assert reaper_of(world, interval="5s").pause(None) == 5


async def test_only_the_leader_sweeps(world: World) -> None:
    """The others do not even read the table."""
    await connect(world, "old", silent=SILENCE + 60)
    world.engine.calls.clear()
    assert await reaper_of(world, leads=False).step() is None
    assert world.engine.calls == []
    assert await kept_connections(world) == ["old"]


class SteppedClock:
    """A wall clock and a steady clock that are set separately."""

    def __init__(self) -> None:
        self.wall = START
        self.monotonic = 0.0

    def now(self) -> datetime:
        return self.wall

    def steady(self) -> float:
        return self.monotonic

    def advance(self, seconds: float, *, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds if wall is None else wall)


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
async def test_a_clock_that_jumps_deletes_nothing(world: World, jump: float) -> None:
    """Sweeps are skipped until every live connection has pinged by the corrected clock."""
    await connect(world, "fresh", silent=60)
    clock = SteppedClock()
    reaper = reaper_of(replace(world, clock=clock))
    assert await reaper.step() is not None
    clock.advance(300, wall=300 + jump)
    for _ in range(int(SILENCE / 300)):
        assert await reaper.step() is None
        clock.advance(300)
    assert world.recorder.of(ClockJumped) == [ClockJumped(seconds=jump)]
    assert await kept_connections(world) == ["fresh"]
    assert await reaper.step() is not None


async def test_a_small_correction_of_the_clock_is_ignored(world: World) -> None:
    """Time daemons make them all the time."""
    clock = SteppedClock()
    reaper = reaper_of(replace(world, clock=clock))
    await reaper.step()
    clock.advance(300, wall=330)
    assert await reaper.step() is not None
    assert world.recorder.of(ClockJumped) == []


async def test_a_sweep_that_finds_nothing_is_followed_by_the_whole_interval(world: World) -> None:
    """Each sweep reads the whole table, so the leader does not repeat it early."""
    reaper = reaper_of(world, interval="10m")
    assert reaper.pause(await reaper.step()) == 600
