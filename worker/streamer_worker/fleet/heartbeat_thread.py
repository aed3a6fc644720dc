"""Runs the heartbeat: on a thread of its own, or, for tests, on the worker's event loop.

On its own thread, and with its own DynamoDB client, it continues while a handler blocks the event
loop. So a blocked loop does not look like a crash to the other workers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

import anyio
from anyio.abc import TaskStatus
from anyio.from_thread import BlockingPortal, start_blocking_portal

from streamer_store import Stores, WorkerRegistry, WorkerRow
from streamer_store.values import Item
from streamer_worker.concurrency.periodic import run_every
from streamer_worker.fleet.heartbeat import Heartbeat, HeartbeatListener, WorkerStatus
from streamer_worker.fleet.loop_watchdog import (
    TICK,
    EndProcess,
    InterpreterWatchdog,
    LoopWatch,
)
from streamer_worker.fleet.view import FleetView
from streamer_worker.runtime import Runtime
from streamer_worker.settings import PresenceSettings

RemoveRow = Callable[[], Awaitable[None]]
OpenStores = Callable[[], AbstractAsyncContextManager[Stores]]
# Waiting for the start, for the end, and for the removal of the row.
_WAITING_THREADS: Final = 3


class HeartbeatRunner(Protocol):
    """Runs a worker's heartbeat for as long as its context is entered."""

    def __call__(
        self, row: WorkerRow, worker_status: Callable[[], WorkerStatus], listener: HeartbeatListener
    ) -> AbstractAsyncContextManager[RemoveRow]:
        """Register the row when the context is entered, and give the function that removes it.

        Enter the context on the worker's event loop. `worker_status` may be called on another
        thread, so it must only read. The listener is called on the worker's event loop. Entering
        raises what `Heartbeat.register` raises. The row remains unless it is removed.
        """
        ...


def heartbeat_on_loop(
    *,
    workers: WorkerRegistry,
    settings: PresenceSettings,
    runtime: Runtime,
    cpu: Callable[[], float],
) -> HeartbeatRunner:
    """Return a runner that runs the heartbeat on the loop on which its context is entered.

    `cpu` returns the seconds of CPU that the process has used.
    """

    @asynccontextmanager
    async def heartbeat_runner(
        row: WorkerRow, worker_status: Callable[[], WorkerStatus], listener: HeartbeatListener
    ) -> AsyncIterator[RemoveRow]:
        heartbeat = Heartbeat(
            row=row,
            workers=workers,
            settings=settings,
            worker_status=worker_status,
            listener=listener,
            runtime=runtime,
            cpu=cpu,
        )
        await heartbeat.register()
        every = partial(run_every, runtime=runtime)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(every, heartbeat.pause, heartbeat.step, name="heartbeat"))
            try:
                yield heartbeat.remove
            finally:
                tasks.cancel_scope.cancel()

    return heartbeat_runner


def heartbeat_on_thread(
    *,
    open_stores: OpenStores,
    settings: PresenceSettings,
    runtime: Runtime,
    cpu: Callable[[], float],
    end_process: EndProcess,
    watchdog: InterpreterWatchdog | None = None,
) -> HeartbeatRunner:
    """Return a runner that runs the heartbeat on a thread of its own, which watches the loop too.

    The worker's loop is the one on which the context is entered. `open_stores` is called on the
    heartbeat's thread. `cpu` returns the seconds of CPU that the process has used. `end_process`
    is called on a thread that is not the worker's, if its loop is blocked for too long.
    """

    @asynccontextmanager
    async def heartbeat_runner(
        row: WorkerRow, worker_status: Callable[[], WorkerStatus], listener: HeartbeatListener
    ) -> AsyncIterator[RemoveRow]:
        every = partial(run_every, runtime=runtime)
        # Not the loop's own limiter: handlers may use all of its threads.
        limiter = anyio.CapacityLimiter(_WAITING_THREADS)
        loop_watch = LoopWatch(
            stuck_after=settings.stuck_after,
            runtime=runtime,
            end_process=end_process,
            watchdog=watchdog,
        )

        async def run_heartbeat(
            listener: HeartbeatListener, *, task_status: TaskStatus[tuple[RemoveRow, anyio.Event]]
        ) -> None:
            """Run on the heartbeat's thread until the event is set that `started` hands over."""
            async with open_stores() as stores:
                on_loop = heartbeat_on_loop(
                    workers=stores.workers,
                    settings=settings,
                    runtime=runtime,
                    cpu=cpu,
                )
                async with (
                    on_loop(row, worker_status, listener) as remove_row,
                    anyio.create_task_group() as tasks,
                ):
                    tasks.start_soon(
                        partial(every, lambda _: TICK, loop_watch.check, name="loop_check")
                    )
                    stopped = anyio.Event()
                    task_status.started((remove_row, stopped))
                    await stopped.wait()
                    tasks.cancel_scope.cancel()
            loop_watch.stop()

        async with anyio.create_task_group() as tasks:
            threadsafe_listener = _ThreadsafeListener(
                listener, margin=settings.margin, end_process=end_process
            )
            with start_blocking_portal("asyncio", name="heartbeat") as portal:
                start = partial(portal.start_task, run_heartbeat, threadsafe_listener)
                task, (remove_row, stopped) = await anyio.to_thread.run_sync(start, limiter=limiter)
                task.add_done_callback(threadsafe_listener.on_heartbeat_ended)
                tasks.start_soon(partial(every, lambda _: TICK, loop_watch.tick, name="loop_tick"))
                try:
                    yield partial(_call, portal, remove_row, limiter)
                finally:
                    stop = partial(portal.call, stopped.set)
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(stop, limiter=limiter)
                    tasks.cancel_scope.cancel()

    return heartbeat_runner


async def _call(
    portal: BlockingPortal, function: RemoveRow, limiter: anyio.CapacityLimiter
) -> None:
    await anyio.to_thread.run_sync(portal.call, function, abandon_on_cancel=True, limiter=limiter)


class _ThreadsafeListener:
    """Passes each call on to a listener, on the event loop on which this object was made.

    Made on the worker's thread. The methods of HeartbeatListener are called on the heartbeat's
    thread. They return at once, whether the worker's loop runs or not. No field is written after
    the constructor, so both threads may read all of them.
    """

    def __init__(
        self, listener: HeartbeatListener, *, margin: float, end_process: EndProcess
    ) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._margin = margin
        self._end_process = end_process

    def on_heartbeat(self, began: float) -> None:
        self._schedule(self._listener.on_heartbeat, began)

    def on_fleet_view(self, view: FleetView) -> None:
        self._schedule(self._listener.on_fleet_view, view)

    def on_pauses(self, item: Item | None, began: float) -> None:
        self._schedule(self._listener.on_pauses, item, began)

    def cancel(self, versions: frozenset[str]) -> None:
        self._schedule(self._listener.cancel, versions)

    def drain(self) -> None:
        self._schedule(self._listener.drain)

    def fence(self, reason: str, *, paused: bool) -> None:
        """Fence the worker. End the process if the loop has not done so within the margin.

        LEASE-3: other workers may run its requests already, so a blocked loop must not go on with
        them.
        """
        fenced = self._schedule(partial(self._listener.fence, reason, paused=paused))
        if fenced is not None:
            timer = threading.Timer(self._margin, self._end_unless_done, (fenced, reason))
            timer.daemon = True
            timer.start()

    def on_heartbeat_ended(self, task: Future[None]) -> None:
        """Fence the worker if its heartbeat ended with an error.

        Called on the heartbeat's thread, or on the worker's if the task has ended already.
        """
        if not task.cancelled() and task.exception() is not None:
            self.fence(f"its heartbeat ended: {task.exception()!r}", paused=False)

    def _end_unless_done(self, fenced: Future[Any], reason: str) -> None:
        """End the process unless the worker was fenced. Called on a timer's thread."""
        if not fenced.done():
            self._end_process(f"the event loop is blocked, and {reason}")

    def _schedule(self, call: Callable[..., None], *arguments: Any) -> Future[None] | None:
        """Schedule the call on the worker's loop, and return a future that is done after it.

        Returns None if the loop is closed, because the worker has ended. It does not wait as
        anyio's portal would.
        """
        done: Future[None] = Future()

        def run() -> None:
            call(*arguments)
            done.set_result(None)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:  # the loop is closed
            return None
        return done
