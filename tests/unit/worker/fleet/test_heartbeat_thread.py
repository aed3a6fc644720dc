"""The heartbeat on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import Pause, PauseKind, Stores, StoreUnavailable, WorkerRow
from streamer_store.engine import ConditionFailed
from streamer_store.errors import ungrouped
from streamer_store.values import Item
from streamer_worker.events import Event
from streamer_worker.fleet.heartbeat import WorkerStatus
from streamer_worker.fleet.heartbeat_thread import (
    OpenStores,
    RemoveRow,
    _ThreadsafeListener,
    heartbeat_on_thread,
)
from streamer_worker.fleet.view import FleetView
from streamer_worker.settings import PresenceSettings
from support import START, make_runtime
from unit.worker.faulty_engine import PATIENCE
from unit.worker.harness import World, on_asyncio

pytestmark = [pytest.mark.anyio, on_asyncio]


class RecordingListener:
    """Records events, the listener's calls and the end, each with its thread."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, Any, int]] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        self.record(type(event).__name__, event)

    def on_heartbeat(self, began: float) -> None:
        self.record("heartbeat", began)

    def on_fleet_view(self, view: FleetView) -> None:
        self.record("fleet_view", view)

    def on_pauses(self, item: Item | None, began: float) -> None:
        self.record("pauses", (item, began))

    def cancel(self, versions: frozenset[str]) -> None:
        self.record("cancel", versions)

    def drain(self) -> None:
        self.record("drain")

    def fence(self, reason: str, *, paused: bool) -> None:
        del paused
        self.record("fence", reason)

    def end(self, reason: str) -> None:
        self.record("end", reason)

    def of(self, kind: str) -> list[Any]:
        with self._changed:
            return [value for recorded, value, _ in self._calls if recorded == kind]

    def threads_of(self, *kinds: str) -> set[int]:
        with self._changed:
            return {thread for kind, _, thread in self._calls if kind in kinds}

    def block_until(self, kind: str, more: int = 1) -> None:
        """Block this thread, and its loop, until `more` more of this kind were recorded."""
        self._wait(kind, len(self.of(kind)) + more)

    async def wait_for(self, kind: str, times: int = 1) -> list[Any]:
        await anyio.to_thread.run_sync(self._wait, kind, times)
        return self.of(kind)

    def _wait(self, kind: str, times: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(kind)) >= times, PATIENCE)

    def record(self, kind: str, value: Any = None) -> None:
        with self._changed:
            self._calls.append((kind, value, threading.get_ident()))
            self._changed.notify_all()


class Bench:
    """Ten heartbeats a second, over stores that both threads share."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.workers = world.stores.workers
        self.listener = RecordingListener()
        self.closed = 0

    def heartbeat_runner(
        self, *, open_stores: OpenStores | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[RemoveRow]:
        heartbeat_runner = heartbeat_on_thread(
            open_stores=open_stores or self.lend,
            settings=PresenceSettings(**{"heartbeat": 0.1} | settings),
            runtime=make_runtime(self.listener),
            cpu=float,
            end_process=self.listener.end,
        )
        return heartbeat_runner(
            WorkerRow(worker_id="me", started_at=START), WorkerStatus, self.listener
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
    return [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


async def test_the_row_is_registered_when_the_context_is_entered(bench: Bench) -> None:
    """So nothing is claimed before. The fleet has been read too."""
    async with bench.heartbeat_runner(heartbeat=60, lease=600):
        assert [row.worker_id for row in await bench.workers.list()] == ["me"]
        assert (await bench.listener.wait_for("fleet_view"))[0].live[0].worker_id == "me"


async def test_pauses_are_passed_to_the_loop(bench: Bench) -> None:
    """In a large fleet, from the heartbeats that do not read it."""
    for number in range(40):
        age = timedelta(hours=1)
        row = WorkerRow(worker_id=f"other-{number}", started_at=START - age)
        await bench.workers.register(row)
    pause = Pause(kind=PauseKind.ALL, by="ann@desk", at=START)
    await bench.world.stores.pauses.start(pause)
    async with bench.heartbeat_runner():
        item, _ = (await bench.listener.wait_for("pauses"))[0]
        assert set(item) == {"WorkerID", "all#"}
        assert bench.listener.threads_of("pauses") == {threading.get_ident()}


async def test_an_error_of_the_registration_is_raised(bench: Bench) -> None:
    """It is the store's own error, and no thread is left."""
    bench.world.engine.fail("put", times=10**6)
    with pytest.raises(StoreUnavailable), ungrouped():
        await bench.heartbeat_runner(lease=0.4).__aenter__()
    assert (heartbeats(), bench.closed) == ([], 1)


async def test_heartbeats_continue_while_the_loop_is_blocked(bench: Bench) -> None:
    """A handler that blocks the event loop does not look like a crash."""
    async with bench.heartbeat_runner():
        before = (await bench.workers.list())[0].beat
        bench.listener.block_until("HeartbeatTried", 5)
        assert (await bench.workers.list())[0].beat >= before + 4
    assert (bench.listener.of("fence"), bench.listener.of("end")) == ([], [])


async def test_the_listener_is_called_on_the_workers_thread(bench: Bench) -> None:
    """So it needs no locks."""
    async with bench.heartbeat_runner():
        await bench.workers.request_cancel("me", "v1")
        await bench.workers.request_drain("me")
        assert (await bench.listener.wait_for("cancel"))[0] == {"v1"}
        await bench.listener.wait_for("drain")
        await bench.listener.wait_for("heartbeat")
        await bench.workers.remove("me")
        assert await bench.listener.wait_for("fence") == ["its row was removed"]
    listener = bench.listener.threads_of("heartbeat", "cancel", "drain", "fleet_view", "fence")
    assert listener == {threading.get_ident()}
    assert threading.get_ident() not in bench.listener.threads_of("HeartbeatTried")


async def test_calls_for_a_blocked_loop_wait(bench: Bench) -> None:
    """They do not delay heartbeats, and keep their order."""
    async with bench.heartbeat_runner():
        await bench.workers.request_cancel("me", "v1")
        bench.listener.block_until("HeartbeatTried", 4)
        assert bench.listener.of("cancel") == []
        await bench.listener.wait_for("cancel")
        beats = [view.live[0].beat for view in await bench.listener.wait_for("fleet_view", 5)]
        assert beats == sorted(beats)


async def test_the_row_can_be_removed(bench: Bench) -> None:
    """It is removed from the worker's loop, which receives the errors of the store."""
    async with bench.heartbeat_runner(heartbeat=60, lease=600) as remove:
        bench.world.engine.fail("delete")
        with pytest.raises(StoreUnavailable):
            await remove()
        await remove()
        assert await bench.workers.list() == []


async def test_leaving_the_context_ends_the_thread_and_closes_its_client(bench: Bench) -> None:
    """No heartbeat follows, and the listener is not called."""
    async with bench.heartbeat_runner():
        assert len(heartbeats()) == 1
    assert (heartbeats(), bench.closed) == ([], 1)
    assert (bench.listener.of("fence"), bench.listener.of("end")) == ([], [])


async def test_an_error_of_the_worker_ends_the_thread_too(bench: Bench) -> None:
    """The error is raised."""
    with pytest.raises(StoreUnavailable), ungrouped():
        async with bench.heartbeat_runner():
            raise StoreUnavailable("away")
    assert (heartbeats(), bench.closed) == ([], 1)


async def test_cancelling_the_worker_ends_the_thread_too(bench: Bench) -> None:
    """Even during a heartbeat."""
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


async def test_a_fence_that_a_blocked_loop_does_not_run_ends_the_process(bench: Bench) -> None:
    """Others may run its requests already, and nothing else can stop its handlers.

    Proves LEASE-3.
    """
    async with bench.heartbeat_runner():
        bench.world.engine.fail("update", ConditionFailed(None))
        bench.listener.block_until("end")
        assert bench.listener.of("fence") == []
        await bench.listener.wait_for("fence")
    assert bench.listener.of("end") == ["the event loop is blocked, and its row was removed"]


async def test_a_fence_that_the_loop_runs_does_not_end_the_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ends its handlers itself, and starts a new incarnation."""
    end_unless_done = _ThreadsafeListener._end_unless_done

    def record(*arguments: Any) -> None:
        end_unless_done(*arguments)
        bench.listener.record("timer_ended")

    monkeypatch.setattr(_ThreadsafeListener, "_end_unless_done", record)
    bench.world.engine.fail("update", ConditionFailed(None))
    async with bench.heartbeat_runner(heartbeat=1):
        await bench.listener.wait_for("timer_ended")
    assert (len(bench.listener.of("fence")), bench.listener.of("end")) == (1, [])


async def test_a_loop_that_stays_blocked_ends_the_process(bench: Bench) -> None:
    """The heartbeat's thread watches the loop."""
    async with bench.heartbeat_runner(stuck_after=1):
        bench.listener.block_until("end")
    assert bench.listener.of("end")[0] == "the event loop has been blocked for 1 s"


async def test_each_block_is_reported_with_its_stack(bench: Bench) -> None:
    """The stack names this test. The loop runs between two blocks."""
    async with bench.heartbeat_runner():
        bench.listener.block_until("LoopBlocked")
        await bench.listener.wait_for("fleet_view", len(bench.listener.of("fleet_view")) + 2)
        bench.listener.block_until("LoopBlocked")
    for event in bench.listener.of("LoopBlocked"):
        assert "in test_each_block_is_reported_with_its_stack" in event.stack


async def test_an_unexpected_error_is_reported_and_heartbeats_continue(bench: Bench) -> None:
    """No error of a heartbeat ends the loop."""
    bench.world.engine.fail("update", ValueError("odd"))
    async with bench.heartbeat_runner():
        failed, *_ = await bench.listener.wait_for("StepFailed")
        await bench.listener.wait_for("HeartbeatTried", 2)
    assert (failed.loop, failed.error.args) == ("heartbeat", ("odd",))


async def test_a_heartbeat_that_ends_fences_the_worker(bench: Bench) -> None:
    """Without heartbeats its lease expires."""

    async def break_after_a_heartbeat() -> None:
        await bench.listener.wait_for("HeartbeatTried")
        raise ValueError("broken")

    @asynccontextmanager
    async def breaking() -> AsyncIterator[Stores]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(break_after_a_heartbeat)
            yield bench.world.stores

    async with bench.heartbeat_runner(open_stores=breaking):
        (reason,) = await bench.listener.wait_for("fence")
    assert reason.startswith("its heartbeat ended: ")
    assert "broken" in reason


async def test_calls_for_a_worker_that_has_ended_are_ignored() -> None:
    """Its loop is closed, so no timer waits for it."""
    listener = RecordingListener()

    async def make() -> _ThreadsafeListener:
        return _ThreadsafeListener(listener, margin=0.001, end_process=listener.end)

    threadsafe_listener = await anyio.to_thread.run_sync(lambda: asyncio.run(make()))
    before = threading.active_count()
    threadsafe_listener.drain()
    threadsafe_listener.fence("its row was removed", paused=False)
    assert threading.active_count() == before
    assert listener.threads_of("drain", "fence", "end") == set()
