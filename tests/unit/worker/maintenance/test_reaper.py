"""Removing the connections that went silent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from streamer_store import Connection, StaleSweep, StoreUnavailable
from streamer_store.engine import Put
from streamer_store.schema import CONNECTIONS
from streamer_worker.events import ClockJumped, ConnectionsReaped, ItemUndecodable
from streamer_worker.maintenance.reaper import Reaper
from streamer_worker.settings import ReaperSettings
from support import START
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
        leads=lambda: leads,
        events=world.events,
        clock=world.clock,
    )


async def connect(world: World, name: str, *, silent: float) -> None:
    heard = world.clock.now() - timedelta(seconds=silent)
    await world.stores.connections.save(
        Connection(
            connection_id=name,
            user_id="u",
            tenant_id="t",
            endpoint="wss://example.com",
            connected_at=heard - timedelta(hours=1),
            last_ping=heard,
        )
    )


async def left(world: World) -> list[str]:
    return sorted(each.connection_id for each in await world.stores.connections.list_by_user("u"))


async def test_silent_connections_go_and_others_stay(world: World, reaper: Reaper) -> None:
    """The silence is measured by the worker's own clock against `stale_after`."""
    await connect(world, "old", silent=SILENCE + 60)
    await connect(world, "young", silent=SILENCE - 60)
    counts = await reaper.step()
    assert await left(world) == ["young"]
    assert counts == StaleSweep(found=1, deleted=1)


async def test_subscriptions_go_with_their_connection(world: World, reaper: Reaper) -> None:
    """Nothing is left that would be pushed to nobody."""
    await connect(world, "old", silent=SILENCE + 60)
    await world.stores.subscriptions.subscribe("old", "r1")
    await reaper.step()
    assert await world.stores.subscriptions.get_by_request("r1") == []


async def test_a_sweep_is_told_with_its_counts(world: World, reaper: Reaper) -> None:
    """The event has what was found, deleted and kept."""
    for number in range(5):
        await connect(world, f"old{number}", silent=SILENCE + 60)
    await reaper.step()
    (told,) = world.recorder.of(ConnectionsReaped)
    assert (told.found, told.deleted, told.kept, told.undecodable) == (5, 5, 0, 0)
    assert told.dry_run is False
    assert told.seconds >= 0


async def test_a_connection_that_pings_meanwhile_stays(world: World, reaper: Reaper) -> None:
    """The deletion holds only for the ping that was seen."""
    await connect(world, "old", silent=SILENCE + 60)
    fault = world.engine.hold("delete")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reaper.step)
        await fault.wait_reached()
        await world.stores.connections.update_last_ping("old")
        fault.let_go()
    assert await left(world) == ["old"]
    (told,) = world.recorder.of(ConnectionsReaped)
    assert (told.found, told.deleted, told.kept) == (1, 0, 1)


async def test_a_dry_run_only_counts(world: World) -> None:
    """An operator can look first."""
    await connect(world, "old", silent=SILENCE + 60)
    counts = await reaper_of(world, dry_run=True).step()
    assert await left(world) == ["old"]
    assert counts == StaleSweep(found=1)
    (told,) = world.recorder.of(ConnectionsReaped)
    assert told.dry_run is True


async def test_what_cannot_be_read_is_told_and_left(world: World, reaper: Reaper) -> None:
    """One broken row neither stops the sweep nor goes unseen."""
    await world.engine.inner.put(
        Put(table=CONNECTIONS, item={"ConnectionID": {"S": "odd"}, "LastPing": {"S": "0 o'clock"}})
    )
    await connect(world, "old", silent=SILENCE + 60)
    assert await reaper.step() == StaleSweep(found=1, deleted=1, undecodable=1)
    (told,) = world.recorder.of(ItemUndecodable)
    assert told.key == "odd"


async def test_an_outage_is_raised_to_the_loop(world: World, reaper: Reaper) -> None:
    """The loop tells it and comes again; nothing is told as swept."""
    world.engine.fail("scan")
    with pytest.raises(StoreUnavailable):
        await reaper.step()
    assert world.recorder.of(ConnectionsReaped) == []


def test_the_pause_is_the_interval(world: World) -> None:
    """However much was found."""
    assert reaper_of(world, interval="10m").pause(StaleSweep(found=9)) == 600


def test_one_that_may_not_sweep_asks_again_soon(world: World) -> None:
    """A new leader does not let an interval pass before its first sweep."""
    assert reaper_of(world, interval="10m").pause(None) == 10
    assert reaper_of(world, interval="5s").pause(None) == 5


async def test_only_the_leader_sweeps(world: World) -> None:
    """The others do not even read the table."""
    await connect(world, "old", silent=SILENCE + 60)
    world.engine.calls.clear()
    assert await reaper_of(world, leads=False).step() is None
    assert world.engine.calls == []
    assert await left(world) == ["old"]


class SteppedClock:
    """A wall clock and a steady one that are set apart."""

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
async def test_a_clock_that_jumps_removes_nobody(world: World, jump: float) -> None:
    """Sweeps are left out until what lives has surely pinged by the clock that is right."""
    await connect(world, "fresh", silent=60)
    clock = SteppedClock()
    reaper = Reaper(
        connections=world.stores.connections,
        settings=ReaperSettings(),
        leads=lambda: True,
        events=world.events,
        clock=clock,
    )
    assert await reaper.step() is not None
    clock.advance(300, wall=300 + jump)
    for _ in range(int(SILENCE / 300)):
        assert await reaper.step() is None
        clock.advance(300)
    assert world.recorder.of(ClockJumped) == [ClockJumped(seconds=jump)]
    assert await left(world) == ["fresh"]
    assert await reaper.step() is not None


async def test_a_clock_that_is_corrected_a_little_is_no_matter(world: World) -> None:
    """As time daemons do all the time."""
    clock = SteppedClock()
    reaper = Reaper(
        connections=world.stores.connections,
        settings=ReaperSettings(),
        leads=lambda: True,
        events=world.events,
        clock=clock,
    )
    await reaper.step()
    clock.advance(300, wall=330)
    assert await reaper.step() is not None
    assert world.recorder.of(ClockJumped) == []
