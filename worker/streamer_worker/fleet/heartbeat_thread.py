"""Where presence runs: on a thread of its own, or, for tests, on the worker's loop.

On its own thread, with its own client, a handler that blocks the event loop does not look like
a crash.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
from anyio.abc import TaskStatus
from anyio.from_thread import BlockingPortal, start_blocking_portal

from streamer_store import Clock, Stores, WorkerRegistry, WorkerRow
from streamer_worker.concurrency.periodic import run_every
from streamer_worker.events import Events
from streamer_worker.fleet.heartbeat import Heartbeat, HeartbeatListener, WorkerStatus
from streamer_worker.fleet.loop_watchdog import TICK, End, InterpreterWatchdog, LoopWatch
from streamer_worker.fleet.view import FleetView
from streamer_worker.settings import PresenceSettings

if TYPE_CHECKING:
    import random

RemoveRow = Callable[[], Awaitable[None]]
_THREADS: Final = 3
OpenStores = Callable[[], AbstractAsyncContextManager[Stores]]


class HeartbeatRunner(Protocol):
    """Keeps a worker present. Its row is registered when the context is entered; it raises
    what the store raises.
    """

    def __call__(
        self, row: WorkerRow, worker_status: Callable[[], WorkerStatus], listener: HeartbeatListener
    ) -> AbstractAsyncContextManager[RemoveRow]:
        """Give the coroutine function that removes the row."""
        ...


def heartbeat_here(
    *,
    workers: WorkerRegistry,
    settings: PresenceSettings,
    events: Events,
    clock: Clock,
    rng: random.Random,
    cpu: Callable[[], float],
) -> HeartbeatRunner:
    """Return a pulse on the loop that the worker runs on."""

    @asynccontextmanager
    async def heartbeat_runner(
        row: WorkerRow, worker_status: Callable[[], WorkerStatus], listener: HeartbeatListener
    ) -> AsyncIterator[RemoveRow]:
        presence = Heartbeat(
            row=row,
            workers=workers,
            settings=settings,
            worker_status=worker_status,
            listener=listener,
            events=events,
            clock=clock,
            cpu=cpu,
        )
        await presence.register()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                partial(
                    run_every,
                    presence.pause,
                    presence.step,
                    name="heartbeat",
                    events=events,
                    rng=rng,
                )
            )
            try:
                yield presence.remove
            finally:
                tasks.cancel_scope.cancel()

    return heartbeat_runner


def heartbeat_on_thread(
    *,
    open_stores: OpenStores,
    settings: PresenceSettings,
    events: Events,
    clock: Clock,
    rng: random.Random,
    cpu: Callable[[], float],
    end: End,
    watchdog: InterpreterWatchdog | None = None,
) -> HeartbeatRunner:
    """Return a pulse on a thread of its own, which also watches the loop it is entered on.

    `cpu` gives the seconds of CPU that the process has used.
    """

    @asynccontextmanager
    async def heartbeat_runner(
        row: WorkerRow, worker_status: Callable[[], WorkerStatus], listener: HeartbeatListener
    ) -> AsyncIterator[RemoveRow]:
        every = partial(run_every, events=events, rng=rng)
        # Its own: handlers may have taken every thread of the loop's.
        threads = anyio.CapacityLimiter(_THREADS)
        watch = LoopWatch(
            stuck_after=settings.stuck_after,
            events=events,
            clock=clock,
            end=end,
            watchdog=watchdog,
        )

        async def beat(
            listener: HeartbeatListener, *, task_status: TaskStatus[tuple[RemoveRow, anyio.Event]]
        ) -> None:
            async with open_stores() as stores:
                here = heartbeat_here(
                    workers=stores.workers,
                    settings=settings,
                    events=events,
                    clock=clock,
                    rng=rng,
                    cpu=cpu,
                )
                async with (
                    here(row, worker_status, listener) as remove,
                    anyio.create_task_group() as tasks,
                ):
                    tasks.start_soon(partial(every, lambda _: TICK, watch.check, name="watch"))
                    stop = anyio.Event()
                    task_status.started((remove, stop))
                    await stop.wait()
                    tasks.cancel_scope.cancel()
            watch.stop()

        async with anyio.create_task_group() as tasks:
            posted = _PostedListener(listener, margin=settings.margin, end=end)
            with start_blocking_portal("asyncio", name="heartbeat") as portal:
                start = partial(portal.start_task, beat, posted)
                beating, (remove, stop) = await anyio.to_thread.run_sync(start, limiter=threads)
                beating.add_done_callback(posted.beating_ended)
                tasks.start_soon(partial(every, lambda _: TICK, watch.turn, name="turn"))
                try:
                    yield partial(_call, portal, remove, threads)
                finally:
                    beating_ends = partial(portal.call, stop.set)
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(beating_ends, limiter=threads)
                    tasks.cancel_scope.cancel()

    return heartbeat_runner


async def _call(
    portal: BlockingPortal, function: RemoveRow, threads: anyio.CapacityLimiter
) -> None:
    await anyio.to_thread.run_sync(portal.call, function, abandon_on_cancel=True, limiter=threads)


class _PostedListener:
    """Orders that are given on one thread and carried out on another, where this is made."""

    def __init__(self, listener: HeartbeatListener, *, margin: float, end: End) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._margin = margin
        self._end = end

    def on_heartbeat(self, began: float) -> None:
        self._post(self._listener.on_heartbeat, began)

    def on_fleet_view(self, view: FleetView) -> None:
        self._post(self._listener.on_fleet_view, view)

    def cancel(self, versions: frozenset[str]) -> None:
        self._post(self._listener.cancel, versions)

    def drain(self) -> None:
        self._post(self._listener.drain)

    def fence(self, reason: str, *, paused: bool) -> None:
        """Others may run our requests already: a loop that does not answer is ended."""
        answer = self._post(partial(self._listener.fence, reason, paused=paused))
        if answer is not None:
            timer = threading.Timer(self._margin, self._judge, (answer, reason))
            timer.daemon = True
            timer.start()

    def beating_ended(self, beating: Future[None]) -> None:
        if not beating.cancelled() and beating.exception() is not None:
            self.fence(f"its heartbeat ended: {beating.exception()!r}", paused=False)

    def _judge(self, answer: Future[Any], reason: str) -> None:
        if not answer.done():
            self._end(f"the event loop does not answer, and {reason}")

    def _post(self, call: Callable[..., None], *arguments: Any) -> Future[None] | None:
        """Have it done, and do not wait: anyio's portal would, while that loop is blocked."""
        answer: Future[None] = Future()

        def do() -> None:
            call(*arguments)
            answer.set_result(None)

        try:
            self._loop.call_soon_threadsafe(do)
        except RuntimeError:  # the loop is closed: the worker has ended
            return None
        return answer
