"""Presence on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest

from streamer_store import Stores, StoreUnavailable, SystemClock, WorkerRow
from streamer_store.engine import ConditionFailed
from streamer_store.errors import ungrouped
from streamer_worker.events import Event, Events
from streamer_worker.fleet.heartbeat import WorkerStatus
from streamer_worker.fleet.heartbeat_thread import (
    OpenStores,
    RemoveRow,
    _ThreadsafeListener,
    heartbeat_on_thread,
)
from streamer_worker.fleet.view import FleetView
from streamer_worker.settings import PresenceSettings
from support import START
from unit.worker.harness import PATIENCE, World, on_asyncio

pytestmark = [pytest.mark.anyio, on_asyncio]


class Told:
    """A listener, orders and an end, which remember what came on which thread."""

    def __init__(self) -> None:
        self._happened: list[tuple[str, Any, int]] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        self.note(type(event).__name__, event)

    def on_heartbeat(self, began: float) -> None:
        self.note("beaten", began)

    def on_fleet_view(self, view: FleetView) -> None:
        self.note("looked", view)

    def cancel(self, versions: frozenset[str]) -> None:
        self.note("cancel", versions)

    def drain(self) -> None:
        self.note("drain")

    def fence(self, reason: str, *, paused: bool) -> None:
        del paused
        self.note("fence", reason)

    def end(self, reason: str) -> None:
        self.note("end", reason)

    def of(self, kind: str) -> list[Any]:
        with self._changed:
            return [value for each, value, _ in self._happened if each == kind]

    def threads_of(self, *kinds: str) -> set[int]:
        with self._changed:
            return {thread for kind, _, thread in self._happened if kind in kinds}

    def block_until(self, kind: str, more: int = 1) -> None:
        """Block this thread, and its loop, until so many more have come."""
        self._wait(kind, len(self.of(kind)) + more)

    async def wait_for(self, kind: str, times: int = 1) -> list[Any]:
        await anyio.to_thread.run_sync(self._wait, kind, times)
        return self.of(kind)

    def _wait(self, kind: str, times: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(kind)) >= times, PATIENCE)

    def note(self, kind: str, value: Any = None) -> None:
        with self._changed:
            self._happened.append((kind, value, threading.get_ident()))
            self._changed.notify_all()


class Bench:
    """A pulse that beats ten times a second, over stores that both threads share."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.workers = world.stores.workers
        self.told = Told()
        self.closed = 0

    def heartbeat_runner(
        self, *, open_stores: OpenStores | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[RemoveRow]:
        heartbeat_runner = heartbeat_on_thread(
            open_stores=open_stores or self.lend,
            settings=PresenceSettings(**{"heartbeat": 0.1} | settings),
            events=Events(self.told),
            clock=SystemClock(),
            rng=self.world.rng,
            cpu=float,
            end_process=self.told.end,
        )
        return heartbeat_runner(
            WorkerRow(worker_id="me", started_at=START), WorkerStatus, self.told
        )

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Stores]:
        try:
            yield self.world.stores
        finally:
            self.closed += 1


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)


def heartbeats() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "heartbeat"]


async def test_the_row_is_there_when_the_pulse_has_begun(bench: Bench) -> None:
    """So that nothing is claimed before; and the fleet was looked at."""
    async with bench.heartbeat_runner(heartbeat=60, lease=600):
        assert [each.worker_id for each in await bench.workers.list()] == ["me"]
        assert (await bench.told.wait_for("looked"))[0].live[0].worker_id == "me"


async def test_what_stops_the_registration_is_raised(bench: Bench) -> None:
    """The store's own error, and no thread is left."""
    bench.world.engine.fail("put", times=10**6)
    with pytest.raises(StoreUnavailable), ungrouped():
        await bench.heartbeat_runner(lease=0.4).__aenter__()
    assert (heartbeats(), bench.closed) == ([], 1)


async def test_beats_go_on_while_the_loop_is_blocked(bench: Bench) -> None:
    """A handler that blocks the event loop does not look like a crash."""
    async with bench.heartbeat_runner():
        before = (await bench.workers.list())[0].beat
        bench.told.block_until("HeartbeatTried", 5)
        assert (await bench.workers.list())[0].beat >= before + 4
    assert (bench.told.of("fence"), bench.told.of("end")) == ([], [])


async def test_orders_arrive_on_the_workers_own_thread(bench: Bench) -> None:
    """Whoever carries them out needs no locks."""
    async with bench.heartbeat_runner():
        await bench.workers.request_cancel("me", "v1")
        await bench.workers.request_drain("me")
        assert (await bench.told.wait_for("cancel"))[0] == {"v1"}
        await bench.told.wait_for("drain")
        await bench.told.wait_for("beaten")
        await bench.workers.remove("me")
        assert await bench.told.wait_for("fence") == ["its row was removed"]
    listener = bench.told.threads_of("beaten", "cancel", "drain", "looked", "fence")
    assert listener == {threading.get_ident()}
    assert threading.get_ident() not in bench.told.threads_of("HeartbeatTried")


async def test_orders_for_a_loop_that_is_blocked_wait(bench: Bench) -> None:
    """They hold up no beat, and are carried out in their order."""
    async with bench.heartbeat_runner():
        await bench.workers.request_cancel("me", "v1")
        bench.told.block_until("HeartbeatTried", 4)
        assert bench.told.of("cancel") == []
        await bench.told.wait_for("cancel")
        beats = [view.live[0].beat for view in await bench.told.wait_for("looked", 5)]
        assert beats == sorted(beats)


async def test_the_row_can_be_removed(bench: Bench) -> None:
    """From the worker's loop; what the store raises comes back to it."""
    async with bench.heartbeat_runner(heartbeat=60, lease=600) as remove:
        bench.world.engine.fail("delete")
        with pytest.raises(StoreUnavailable):
            await remove()
        await remove()
        assert await bench.workers.list() == []


async def test_its_end_ends_the_thread_and_closes_its_client(bench: Bench) -> None:
    """No beat follows, and nobody is told anything."""
    async with bench.heartbeat_runner():
        assert len(heartbeats()) == 1
    assert (heartbeats(), bench.closed) == ([], 1)
    assert (bench.told.of("fence"), bench.told.of("end")) == ([], [])


async def test_an_error_of_the_worker_ends_the_thread_too(bench: Bench) -> None:
    """The error goes on to whoever can tell it."""
    with pytest.raises(StoreUnavailable), ungrouped():
        async with bench.heartbeat_runner():
            raise StoreUnavailable("away")
    assert (heartbeats(), bench.closed) == ([], 1)


async def test_cancelling_the_worker_ends_the_thread_too(bench: Bench) -> None:
    """In the midst of a beat, at that."""
    beating = threading.Event()

    def reach(_update: object) -> bool:
        beating.set()
        return True

    bench.world.engine.hold("update", when=reach)
    with anyio.CancelScope() as scope:
        async with bench.heartbeat_runner():
            assert await anyio.to_thread.run_sync(beating.wait, PATIENCE)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert (heartbeats(), bench.closed) == ([], 1)


async def test_a_fence_that_the_loop_does_not_answer_ends_the_process(bench: Bench) -> None:
    """Others may run its requests already, and nothing else can stop its own."""
    async with bench.heartbeat_runner():
        bench.world.engine.fail("update", ConditionFailed(None))
        bench.told.block_until("end")
        assert bench.told.of("fence") == []
        await bench.told.wait_for("fence")
    assert bench.told.of("end") == ["the event loop is blocked, and its row was removed"]


async def test_a_fence_that_is_answered_does_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ends its handlers itself, and begins anew."""
    end_unless_done = _ThreadsafeListener._end_unless_done

    def record(*arguments: Any) -> None:
        end_unless_done(*arguments)
        bench.told.note("judged")

    monkeypatch.setattr(_ThreadsafeListener, "_end_unless_done", record)
    bench.world.engine.fail("update", ConditionFailed(None))
    async with bench.heartbeat_runner(heartbeat=1):
        await bench.told.wait_for("judged")
    assert (len(bench.told.of("fence")), bench.told.of("end")) == (1, [])


async def test_a_loop_that_stays_blocked_is_ended(bench: Bench) -> None:
    """It is watched from the heartbeat's thread."""
    async with bench.heartbeat_runner(stuck_after=1):
        bench.told.block_until("end")
    assert bench.told.of("end")[0] == "the event loop has been blocked for 1 s"


async def test_each_block_is_told_with_what_blocks(bench: Bench) -> None:
    """The stack names this test; in between, the loop has turned."""
    async with bench.heartbeat_runner():
        bench.told.block_until("LoopBlocked")
        await bench.told.wait_for("looked", len(bench.told.of("looked")) + 2)
        bench.told.block_until("LoopBlocked")
    for told in bench.told.of("LoopBlocked"):
        assert "in test_each_block_is_told_with_what_blocks" in told.stack


async def test_an_unexpected_error_of_a_beat_is_told_and_beats_go_on(bench: Bench) -> None:
    """Nothing that a beat raises ends the heart."""
    bench.world.engine.fail("update", ValueError("odd"))
    async with bench.heartbeat_runner():
        failed, *_ = await bench.told.wait_for("StepFailed")
        await bench.told.wait_for("HeartbeatTried", 2)
    assert (failed.loop, failed.error.args) == ("heartbeat", ("odd",))


async def test_a_heart_that_stops_is_noticed(bench: Bench) -> None:
    """Without it the worker must take itself for dead."""

    async def break_after_a_beat() -> None:
        await bench.told.wait_for("HeartbeatTried")
        raise ValueError("broken")

    @asynccontextmanager
    async def breaking() -> AsyncIterator[Stores]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(break_after_a_beat)
            yield bench.world.stores

    async with bench.heartbeat_runner(open_stores=breaking):
        (reason,) = await bench.told.wait_for("fence")
    assert reason.startswith("its heartbeat ended: ")
    assert "broken" in reason


async def test_orders_for_a_worker_that_has_ended_go_nowhere() -> None:
    """Its loop is closed; nobody is left that must answer."""
    told = Told()

    async def make() -> _ThreadsafeListener:
        return _ThreadsafeListener(told, margin=0.001, end_process=told.end)

    posted = await anyio.to_thread.run_sync(lambda: asyncio.run(make()))
    before = threading.active_count()
    posted.drain()
    posted.fence("its row was removed", paused=False)
    assert threading.active_count() == before
    assert told.threads_of("drain", "fence", "end") == set()
