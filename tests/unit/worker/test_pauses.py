"""Whole workers and pauses, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import anyio
import pytest

from streamer_store import Pause, PauseKind, RequestStatus, WorkerRow
from streamer_store.pause import CONTROL_PAUSE
from streamer_worker import Context, Fuse, Handler, RetryLater, RetryPolicy, handler
from streamer_worker.app import App
from streamer_worker.events import (
    FuseBlown,
    FuseProbed,
    PauseEnded,
    PauseStarted,
    RequestFinished,
    StepFailed,
)
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.fleet.view import FleetView
from streamer_worker.maintenance.pause_sweep import PauseSweep
from streamer_worker.settings import PauseSettings, PollSettings
from support import START
from unit.worker.benches import membership
from unit.worker.harness import Waiting, World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
HEARTBEAT = 4.0
PAUSE = Pause(kind=PauseKind.ACTION, name="echo", by="ann@desk", at=START, reason="a test")
EVERYTHING = replace(PAUSE, kind=PauseKind.ALL, name="")


def _app(world: World, handlers: Iterable[Handler], **settings: Any) -> App:
    # Minutes pass here: a worker that polls each millisecond would take long.
    return world.app(handlers, poll=PollSettings(), **settings)


async def _ended(world: World, request_id: str) -> bool:
    return (await world.stores.requests.get(request_id)).status is RequestStatus.COMPLETED


async def _stored(world: World) -> list[PauseKind]:
    return [pause.kind for pause in await world.stores.pauses.read_all()]


async def test_a_pause_works_within_one_heartbeat(world: World) -> None:
    """Requests that come later wait as they are, and go at once when it is resumed."""
    async with running(_app(world, [echo])):
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
    async with running(_app(world, [waiting.handler])):
        request = await world.enqueue()
        await anyio.sleep(1)
        await world.stores.pauses.start(EVERYTHING)
        await anyio.sleep(60)
        assert (waiting.started, waiting.cancelled) == (1, 0)
        waiting.go.set()
        await world.recorder.wait_for(RequestFinished)
        assert await _ended(world, request.request_id)


async def test_a_deploy_does_not_wake_what_is_paused(world: World) -> None:
    """A worker that starts later reads the pauses before its first claim."""
    await world.stores.pauses.start(PAUSE)
    request = await world.enqueue()
    for _ in range(3):
        async with running(_app(world, [echo])):
            await anyio.sleep(30)
    assert await world.get(request) == request


async def test_a_pause_works_within_one_heartbeat_in_a_large_fleet(world: World) -> None:
    """Where the fleet is read at every eleventh heartbeat, the pauses are read at each."""
    for number in range(320):
        row = WorkerRow(worker_id=f"other-{number}", started_at=START - timedelta(days=1))
        await world.stores.workers.register(row)
    # Rows of workers that are taken for alive until a lease has passed.
    async with running(_app(world, [echo])):
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
    async with running(_app(world, [echo])):
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
    async with running(_app(world, [echo])):
        await anyio.sleep(60)
        assert (await world.get(request)).status is RequestStatus.RETRYING


async def test_a_pause_ends_by_itself(world: World) -> None:
    """At its time by the worker's own clock. It stays stored, as other clocks may be behind."""
    until = world.clock.now() + timedelta(seconds=30)
    await world.stores.pauses.start(replace(PAUSE, until=until))
    await world.stores.pauses.start(replace(PAUSE, name="other"))
    request = await world.enqueue()
    async with running(_app(world, [echo])):
        await anyio.sleep(29)
        assert await world.get(request) == request
        await anyio.sleep(2)
        assert await _ended(world, request.request_id)
        await anyio.sleep(65)
        assert len(await world.stores.pauses.read_all()) == 2
    assert [event.name for event in world.recorder.of(PauseEnded)] == ["echo"]


async def test_the_leader_deletes_what_is_over(world: World) -> None:
    """An hour after its end. Others are kept, and other workers delete nothing."""
    until = world.clock.now() + timedelta(seconds=30)
    await world.stores.pauses.start(replace(PAUSE, until=until))
    await world.stores.pauses.start(replace(PAUSE, name="other"))
    known = KnownPauses(runtime=world.runtime)
    known.on_row((await world.stores.workers.read_all()).controls[CONTROL_PAUSE])
    for leads, waited, deleted in ((True, 3600, 0), (False, 31, 0), (True, 0, 1)):
        await anyio.sleep(waited)
        members = membership(FleetView(worker_id="me", leads=leads))
        sweep = PauseSweep(known=known, pauses=world.stores.pauses, membership=members)
        assert await sweep.step() == deleted
    (left,) = await world.stores.pauses.read_all()
    assert left.name == "other"


class _Limited:
    """A handler whose API answers once with a Retry-After, and then with success."""

    def __init__(self, world: World, *, after: float, counts: bool = False) -> None:
        self.started: list[float] = []
        self._world = world
        self._after: float | None = after
        self._counts = counts
        self.handler = handler("call")(self._run)

    async def _run(self, _payload: dict[str, Any], _ctx: Context) -> None:
        self.started.append(anyio.current_time())
        if self._after is not None:
            after, self._after = self._after, None
            raise RetryLater("429", after=after, counts=self._counts, scope="action")


@pytest.mark.parametrize("counts", [False, True])
async def test_retry_later_holds_the_whole_action(world: World, *, counts: bool) -> None:
    """No request of the action starts before the time that the API gave, and then all do."""
    limited = _Limited(world, after=100, counts=counts)
    async with running(_app(world, [limited.handler, echo])):
        first = await world.enqueue("call", max_retries=3)
        await world.recorder.wait_for(RequestFinished)
        assert (await world.get(first)).status is RequestStatus.RETRYING
        for _ in range(5):
            await world.enqueue("call")
        other = await world.enqueue()
        await anyio.sleep(95)
        assert len(limited.started) == 1
        assert await _ended(world, other.request_id)
        (hold,) = await world.stores.pauses.read_all()
        assert (hold.kind, hold.name, hold.by[:7]) == (PauseKind.HOLD, "call", "worker ")
        await anyio.sleep(7)
    assert len(limited.started) == 7
    assert min(limited.started[1:]) >= 100


async def test_a_hold_is_cut_at_the_setting(world: World) -> None:
    """The request waits as long as it asked for, the others at most for `pause.max_hold`."""
    limited = _Limited(world, after=7200)
    app = _app(world, [limited.handler], pause=PauseSettings(max_hold=60))
    async with running(app):
        await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished)
        await world.enqueue("call")
        await anyio.sleep(62)
    assert len(limited.started) == 2


async def test_a_hold_shortens_no_pause_of_an_operator(world: World) -> None:
    """They stand beside each other, and the longer one is in force."""
    limited = _Limited(world, after=20)
    async with running(_app(world, [limited.handler])):
        await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished)
        await world.stores.pauses.start(replace(PAUSE, name="call"))
        await anyio.sleep(300)
    assert len(limited.started) == 1


async def test_attempts_that_end_together_write_one_hold(world: World) -> None:
    """A hold that is hardly longer than the one in force is not written."""

    @handler("call")
    async def call(_payload: dict[str, Any], _ctx: Context) -> None:
        await anyio.sleep(1)
        raise RetryLater(after=60, scope="action")

    async with running(_app(world, [call])):
        for _ in range(20):
            await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished, 20)
        assert await _stored(world) == [PauseKind.HOLD]
    started = world.recorder.of(PauseStarted)
    assert len(started) == 1


class _Broken:
    """A handler that fails until it is repaired."""

    def __init__(self, fuse: int | Fuse) -> None:
        self.started: list[float] = []
        self.works = False
        self.handler = handler(
            "call", pause_after_failures=fuse, retry=RetryPolicy(first=0.1, longest=0.1)
        )(self._run)

    async def _run(self, _payload: dict[str, Any], _ctx: Context) -> None:
        self.started.append(anyio.current_time())
        if not self.works:
            raise ValueError("broken")


async def test_a_fuse_pauses_after_failures_and_probes_until_one_succeeds(world: World) -> None:
    """One request runs at each probe. The first that succeeds ends the pause, and all go on."""
    broken = _Broken(3)
    async with running(_app(world, [broken.handler], concurrency=1)):
        for _ in range(10):
            await world.enqueue("call", max_retries=50)
        await world.recorder.wait_for(FuseBlown)
        await anyio.sleep(100)
        assert len(broken.started) == 3 + 3
        waits = [later - earlier for earlier, later in pairwise(broken.started[2:])]
        assert all(30 <= wait < 31 for wait in waits)
        assert await _stored(world) == [PauseKind.FUSE]
        broken.works = True
        await anyio.sleep(32)
        assert await _stored(world) == []
    (blown,) = world.recorder.of(FuseBlown)
    assert (blown.action, blown.failures, blown.within) == ("call", 3, 600.0)
    assert len(world.recorder.of(FuseProbed)) == 4
    assert len(broken.started) == 3 + 3 + 10


async def test_failures_outside_the_window_do_not_count(world: World) -> None:
    """Three failures in three minutes do not blow a fuse with a window of one."""
    broken = _Broken(Fuse(failures=3, within=timedelta(minutes=1)))
    async with running(_app(world, [broken.handler])):
        for _ in range(6):
            await world.enqueue("call")
            await anyio.sleep(40)
    assert len(broken.started) == 6
    assert world.recorder.of(FuseBlown) == []


async def test_a_fuse_ends_no_pause_of_an_operator(world: World) -> None:
    """While an operator's pause is in force nothing is probed."""
    broken = _Broken(1)
    async with running(_app(world, [broken.handler])):
        await world.enqueue("call", max_retries=50)
        await world.recorder.wait_for(FuseBlown)
        await world.stores.pauses.start(replace(PAUSE, name="call"))
        broken.works = True
        await anyio.sleep(300)
        assert len(broken.started) == 1
        assert await _stored(world) == [PauseKind.ACTION, PauseKind.FUSE]
        operator = (await world.stores.pauses.read_all())[0]
        await world.stores.pauses.end(operator)
        await anyio.sleep(35)
        assert await _stored(world) == []
    assert len(broken.started) == 2


async def test_a_blown_fuse_survives_its_worker(world: World) -> None:
    """Another worker probes, and ends the pause."""
    broken = _Broken(1)
    async with running(_app(world, [broken.handler])):
        await world.enqueue("call", max_retries=50)
        await world.recorder.wait_for(FuseBlown)
    broken.works = True
    async with running(_app(world, [broken.handler])):
        await anyio.sleep(10)
        assert len(broken.started) == 1
        await anyio.sleep(30)
        assert await _stored(world) == []
    assert len(broken.started) == 2


def _is_pause(update: Any) -> bool:
    return bool(update.key == CONTROL_PAUSE)


async def test_a_pause_that_is_not_answered_hardly_delays_an_outcome(world: World) -> None:
    """The outcome is written after two seconds."""
    limited = _Limited(world, after=100)
    world.engine.hold("update", when=_is_pause)
    async with running(_app(world, [limited.handler])):
        await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished, within=3)


async def test_a_pause_that_cannot_be_written_ends_with_the_next_read(world: World) -> None:
    """It is in force on its own worker until then, and the failure is reported."""
    limited = _Limited(world, after=100)
    world.engine.fail("update", when=_is_pause)
    async with running(_app(world, [limited.handler])):
        await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished)
        await world.enqueue("call")
        await anyio.sleep(1)
        assert len(limited.started) == 1
        await anyio.sleep(HEARTBEAT)
        assert len(limited.started) == 2
    assert [event.loop for event in world.recorder.of(StepFailed)] == ["pause"]
