"""Whole workers and pauses, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import Pause, PauseKind, RequestStatus, WorkerRow
from streamer_store.pause import CONTROL_PAUSE
from streamer_worker import Handler
from streamer_worker.app import App
from streamer_worker.events import (
    PauseEnded,
    PauseStarted,
    RequestFinished,
)
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.fleet.view import FleetView
from streamer_worker.maintenance.pause_sweep import PauseSweep
from streamer_worker.settings import PollSettings
from support import START
from unit.worker.benches import membership
from unit.worker.harness import Waiting, World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
HEARTBEAT = 4.0
PAUSE = Pause(kind=PauseKind.ACTION, name="echo", by="ann@desk", at=START, reason="a test")
EVERYTHING = replace(PAUSE, kind=PauseKind.ALL, name="")


def app_of(world: World, handlers: Iterable[Handler], **settings: Any) -> App:
    # Minutes pass here: a worker that polls each millisecond would take long.
    return world.app(handlers, poll=PollSettings(), **settings)


async def has_completed(world: World, request_id: str) -> bool:
    return (await world.stores.requests.get(request_id)).status is RequestStatus.COMPLETED


async def stored_kinds(world: World) -> list[PauseKind]:
    return [pause.kind for pause in await world.stores.pauses.read_all()]


async def test_a_pause_works_within_one_heartbeat(world: World) -> None:
    """Requests that come later wait as they are, and go at once when it is resumed."""
    async with running(app_of(world, [echo])):
        await world.stores.pauses.start(PAUSE)
        await anyio.sleep(HEARTBEAT)
        request = await world.enqueue()
        await anyio.sleep(60)
        assert await world.get(request) == request
        (pause,) = await world.stores.pauses.read_all()
        await world.stores.pauses.end(pause)
        await world.recorder.wait_for(RequestFinished, within=HEARTBEAT + 1)
    (started,) = world.recorder.of(PauseStarted)
    assert (started.kind, started.name, started.by) == ("action", "echo", "ann@desk")
    assert (started.reason, started.until, started.in_force) == ("a test", None, 1)
    (ended,) = world.recorder.of(PauseEnded)
    assert (ended.kind, ended.name, ended.in_force) == ("action", "echo", 0)


async def test_what_runs_goes_on(world: World) -> None:
    """A pause interrupts no handler."""
    waiting = Waiting("echo")
    async with running(app_of(world, [waiting.handler])):
        request = await world.enqueue()
        await anyio.sleep(1)
        await world.stores.pauses.start(EVERYTHING)
        await anyio.sleep(60)
        assert (waiting.started, waiting.cancelled) == (1, 0)
        waiting.go.set()
        await world.recorder.wait_for(RequestFinished)
        assert await has_completed(world, request.request_id)


async def test_a_deploy_does_not_wake_what_is_paused(world: World) -> None:
    """A worker that starts later reads the pauses before its first claim."""
    await world.stores.pauses.start(PAUSE)
    request = await world.enqueue()
    for _ in range(3):
        async with running(app_of(world, [echo])):
            await anyio.sleep(30)
    assert await world.get(request) == request


async def test_a_pause_works_within_one_heartbeat_in_a_large_fleet(world: World) -> None:
    """Where the fleet is read at every eleventh heartbeat, the pauses are read at each."""
    for number in range(320):
        row = WorkerRow(worker_id=f"other-{number}", started_at=START - timedelta(days=1))
        await world.stores.workers.register(row)
    # Rows of workers that are taken for alive until a lease has passed.
    async with running(app_of(world, [echo])):
        await anyio.sleep(0.1)
        await world.stores.pauses.start(PAUSE)
        scans = world.engine.calls.count("scan")
        await anyio.sleep(HEARTBEAT)
        assert world.engine.calls.count("scan") == scans
        request = await world.enqueue()
        await anyio.sleep(2)
        assert await world.get(request) == request
        (pause,) = await world.stores.pauses.read_all()
        await world.stores.pauses.end(pause)
        await world.recorder.wait_for(RequestFinished, within=HEARTBEAT + 1)


@pytest.mark.parametrize("operation", ["scan", "get"])
async def test_a_failed_read_leaves_the_pause_in_force(world: World, operation: str) -> None:
    """An outage of reads, also a long one, starts nothing that is paused. Proves PAUSE-1."""
    await world.stores.pauses.start(PAUSE)
    async with running(app_of(world, [echo])):
        world.engine.fail(operation, when=lambda _: True, times=10**6)
        request = await world.enqueue()
        await anyio.sleep(120)
        world.engine.heal()
        assert await world.get(request) == request


async def test_a_paused_request_of_a_dead_worker_is_rescued(world: World) -> None:
    """It becomes RETRYING, and waits."""
    request = await world.enqueue(max_retries=3)
    await world.stores.requests.claim(await world.candidate(request), worker_id="dead")
    await world.stores.pauses.start(PAUSE)
    async with running(app_of(world, [echo])):
        await anyio.sleep(60)
        assert (await world.get(request)).status is RequestStatus.RETRYING


async def test_a_pause_ends_by_itself(world: World) -> None:
    """At its time by the worker's own clock. It stays stored, as other clocks may be behind."""
    until = world.clock.now() + timedelta(seconds=30)
    await world.stores.pauses.start(replace(PAUSE, until=until))
    await world.stores.pauses.start(replace(PAUSE, name="other"))
    request = await world.enqueue()
    async with running(app_of(world, [echo])):
        await anyio.sleep(29)
        assert await world.get(request) == request
        await anyio.sleep(2)
        assert await has_completed(world, request.request_id)
        await anyio.sleep(65)
        assert len(await world.stores.pauses.read_all()) == 2
    assert [event.name for event in world.recorder.of(PauseEnded)] == ["echo"]


async def test_the_leader_deletes_what_is_over(world: World) -> None:
    """An hour after its end. Others are kept, and other workers delete nothing."""
    until = world.clock.now() + timedelta(seconds=30)
    await world.stores.pauses.start(replace(PAUSE, until=until))
    await world.stores.pauses.start(replace(PAUSE, name="other"))
    known = KnownPauses(runtime=world.runtime)
    known.on_row((await world.stores.workers.read_all()).controls[CONTROL_PAUSE], began=math.inf)
    for leads, waited, deleted in ((True, 3600, 0), (False, 31, 0), (True, 0, 1)):
        await anyio.sleep(waited)
        members = membership(FleetView(worker_id="me", leads=leads))
        sweep = PauseSweep(known=known, pauses=world.stores.pauses, membership=members)
        assert await sweep.step() == deleted
    (left,) = await world.stores.pauses.read_all()
    assert left.name == "other"
