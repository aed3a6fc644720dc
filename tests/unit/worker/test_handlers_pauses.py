"""Pauses that handlers cause: holds and fuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import anyio
import pytest

from streamer_store import PauseKind, RequestStatus
from streamer_store.pause import CONTROL_PAUSE
from streamer_worker import Context, Fuse, RetryLater, RetryPolicy, handler
from streamer_worker.events import (
    FuseBlown,
    FuseProbed,
    PauseStarted,
    RequestFinished,
    StepFailed,
)
from streamer_worker.settings import PauseSettings
from unit.worker.harness import World, echo, running, virtual_time
from unit.worker.test_pauses import (
    HEARTBEAT,
    PAUSE,
    app_of,
    has_completed,
    stored_kinds,
)

pytestmark = [pytest.mark.anyio, virtual_time]


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
    async with running(app_of(world, [limited.handler, echo])):
        first = await world.enqueue("call", max_retries=3)
        await world.recorder.wait_for(RequestFinished)
        assert (await world.get(first)).status is RequestStatus.RETRYING
        for _ in range(5):
            await world.enqueue("call")
        other = await world.enqueue()
        await anyio.sleep(95)
        assert len(limited.started) == 1
        assert await has_completed(world, other.request_id)
        (hold,) = await world.stores.pauses.read_all()
        assert (hold.kind, hold.name, hold.by[:7]) == (PauseKind.HOLD, "call", "worker ")
        await anyio.sleep(7)
    assert len(limited.started) == 7
    assert min(limited.started[1:]) >= 100


async def test_a_hold_is_cut_at_the_setting(world: World) -> None:
    """The request waits as long as it asked for, the others at most for `pause.max_hold`."""
    limited = _Limited(world, after=7200)
    app = app_of(world, [limited.handler], pause=PauseSettings(max_hold=60))
    async with running(app):
        await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished)
        await world.enqueue("call")
        await anyio.sleep(62)
    assert len(limited.started) == 2


async def test_a_hold_shortens_no_pause_of_an_operator(world: World) -> None:
    """They stand beside each other, and the longer one is in force."""
    limited = _Limited(world, after=20)
    async with running(app_of(world, [limited.handler])):
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

    async with running(app_of(world, [call])):
        for _ in range(20):
            await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished, 20)
        assert await stored_kinds(world) == [PauseKind.HOLD]
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
    async with running(app_of(world, [broken.handler], concurrency=1)):
        for _ in range(10):
            await world.enqueue("call", max_retries=50)
        await world.recorder.wait_for(FuseBlown)
        await anyio.sleep(100)
        assert len(broken.started) == 3 + 3
        waits = [later - earlier for earlier, later in pairwise(broken.started[2:])]
        assert all(30 <= wait < 31 for wait in waits)
        assert await stored_kinds(world) == [PauseKind.FUSE]
        broken.works = True
        await anyio.sleep(32)
        assert await stored_kinds(world) == []
    (blown,) = world.recorder.of(FuseBlown)
    assert (blown.action, blown.failures, blown.within) == ("call", 3, 600.0)
    assert len(world.recorder.of(FuseProbed)) == 4
    assert len(broken.started) == 3 + 3 + 10


async def test_failures_outside_the_window_do_not_count(world: World) -> None:
    """Three failures in three minutes do not blow a fuse with a window of one."""
    broken = _Broken(Fuse(failures=3, within=timedelta(minutes=1)))
    async with running(app_of(world, [broken.handler])):
        for _ in range(6):
            await world.enqueue("call")
            await anyio.sleep(40)
    assert len(broken.started) == 6
    assert world.recorder.of(FuseBlown) == []


async def test_a_fuse_ends_no_pause_of_an_operator(world: World) -> None:
    """While an operator's pause is in force nothing is probed."""
    broken = _Broken(1)
    async with running(app_of(world, [broken.handler])):
        await world.enqueue("call", max_retries=50)
        await world.recorder.wait_for(FuseBlown)
        await world.stores.pauses.start(replace(PAUSE, name="call"))
        broken.works = True
        await anyio.sleep(300)
        assert len(broken.started) == 1
        assert await stored_kinds(world) == [PauseKind.ACTION, PauseKind.FUSE]
        operator = (await world.stores.pauses.read_all())[0]
        await world.stores.pauses.end(operator)
        await anyio.sleep(35)
        assert await stored_kinds(world) == []
    assert len(broken.started) == 2


async def test_a_blown_fuse_survives_its_worker(world: World) -> None:
    """Another worker probes, and ends the pause."""
    broken = _Broken(1)
    async with running(app_of(world, [broken.handler])):
        await world.enqueue("call", max_retries=50)
        await world.recorder.wait_for(FuseBlown)
    broken.works = True
    async with running(app_of(world, [broken.handler])):
        await anyio.sleep(10)
        assert len(broken.started) == 1
        await anyio.sleep(30)
        assert await stored_kinds(world) == []
    assert len(broken.started) == 2


def _is_pause(update: Any) -> bool:
    return bool(update.key == CONTROL_PAUSE)


async def test_a_pause_that_is_not_answered_hardly_delays_an_outcome(world: World) -> None:
    """The outcome is written after two seconds."""
    limited = _Limited(world, after=100)
    world.engine.hold("update", when=_is_pause)
    async with running(app_of(world, [limited.handler])):
        await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished, within=3)


async def test_a_pause_that_cannot_be_written_ends_with_the_next_read(world: World) -> None:
    """It is in force on its own worker until then, and the failure is reported."""
    limited = _Limited(world, after=100)
    world.engine.fail("update", when=_is_pause)
    async with running(app_of(world, [limited.handler])):
        await world.enqueue("call")
        await world.recorder.wait_for(RequestFinished)
        await world.enqueue("call")
        await anyio.sleep(1)
        assert len(limited.started) == 1
        await anyio.sleep(HEARTBEAT)
        assert len(limited.started) == 2
    assert [event.loop for event in world.recorder.of(StepFailed)] == ["pause"]
