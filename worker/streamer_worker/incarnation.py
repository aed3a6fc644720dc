"""One incarnation of a worker: from registering its row to its last write."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskGroup

from streamer_store import StoreError, Stores, WorkerRow
from streamer_store.clock import new_id
from streamer_store.errors import ungrouped
from streamer_store.pause import CONTROL_PAUSE
from streamer_store.release import package_version
from streamer_store.values import Item
from streamer_worker.concurrency.deadlines import ended_within, sleep_running
from streamer_worker.concurrency.periodic import run_every
from streamer_worker.concurrency.request_tasks import RequestTasks
from streamer_worker.concurrency.shutdown import Shutdown, first_of, then_cancel
from streamer_worker.events import WorkerDraining, WorkerFenced
from streamer_worker.execution.attempt import Interruption
from streamer_worker.execution.dispatcher import Dispatcher
from streamer_worker.execution.invoker import Invoker
from streamer_worker.execution.pausing import Pausing, PausingSettler
from streamer_worker.fleet.heartbeat import REMOVE_TIMEOUT, WorkerStatus
from streamer_worker.fleet.heartbeat_thread import HeartbeatRunner, RemoveRow
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.fleet.server_clock import ServerClock
from streamer_worker.fleet.view import FleetView
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.intake import Intake
from streamer_worker.intake.slots import ClaimCall
from streamer_worker.maintenance.loops import maintenance_loops
from streamer_worker.maintenance.rescuer import RescueCounts, Rescuer
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.push_thread import PushOpener
from streamer_worker.runtime import Runtime
from streamer_worker.schedules.loops import Schedules
from streamer_worker.settings import Settings

# Limits on the steps of the end, in seconds.
_CLAIM_TIMEOUT: Final = 5.0
_WRITE_TIMEOUT: Final = 8.0
_SETTLE_MARGIN: Final = 1.0
# The longest end of an incarnation, without drain_timeout and cancel_grace, in seconds.
MAX_END_SECONDS: Final = _CLAIM_TIMEOUT + _WRITE_TIMEOUT + _SETTLE_MARGIN + REMOVE_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The objects that all incarnations of a worker share. `push` opens the push service."""

    settings: Settings
    stores: Stores
    registry: Registry
    heartbeat_runner: HeartbeatRunner
    push: PushOpener
    schedules: Schedules
    known_pauses: KnownPauses
    runtime: Runtime
    server_clock: ServerClock


class Incarnation:
    """Polls, runs requests and rescues under one worker id. `run` may be called once.

    It is the HeartbeatListener of its own heartbeat, which calls it on the worker's event loop.
    `invoker` has the threads for handlers, which all incarnations share. `lost_threads` returns
    the number of those that handlers of earlier incarnations still hold.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        shutdown: Shutdown,
        *,
        invoker: Invoker,
        announcer: Announcer,
        lost_threads: Callable[[], int],
    ) -> None:
        settings, stores = dependencies.settings, dependencies.stores
        runtime = dependencies.runtime
        clock = runtime.clock
        started = clock.now()
        self.worker_id = f"{started:%Y%m%dT%H%M%SZ}-{new_id(runtime.rng)[:13]}"
        self._dependencies = dependencies
        self._settings = settings
        self._events = runtime.events
        self._shutdown = shutdown
        self._known_pauses = dependencies.known_pauses
        self._intake = Intake(
            worker_id=self.worker_id,
            stores=stores,
            registry=dependencies.registry,
            known_pauses=self._known_pauses,
            server_clock=dependencies.server_clock,
            announcer=announcer,
            lost_threads=lost_threads,
            settings=settings,
            runtime=runtime,
        )
        self._slots = self._intake.slots
        self._row = self._make_row(started)
        self._membership = Membership(self._row, lease=settings.presence.lease, clock=clock)
        self._fenced = anyio.Event()
        self._draining = False
        pausing = Pausing(
            worker_id=self.worker_id,
            registry=dependencies.registry,
            known=self._known_pauses,
            pauses=stores.pauses,
            gate=self._intake.gate,
            settings=settings.pause,
            runtime=runtime,
        )
        self._settler = PausingSettler(
            pausing, requests=stores.requests, announcer=announcer, runtime=runtime
        )
        self._dispatcher = Dispatcher(
            registry=dependencies.registry,
            requests=stores.requests,
            settler=self._settler,
            slots=self._slots,
            invoker=invoker,
            announcer=announcer,
            settings=settings,
            runtime=runtime,
        )
        self._rescuer = Rescuer(
            worker_id=self.worker_id,
            stores=stores,
            claimer=self._intake.claimer,
            announcer=announcer,
            slots=self._slots,
            settings=settings,
            runtime=runtime,
        )

    def on_heartbeat(self, began: float) -> None:
        """Note a heartbeat that succeeded, and began at this time of the steady clock."""
        self._membership.on_heartbeat(began)

    def on_fleet_view(self, view: FleetView) -> None:
        """Replace the view of the fleet and the pauses, and start a rescue sweep."""
        self._known_pauses.on_row(view.controls.get(CONTROL_PAUSE), began=view.began)
        self._membership.on_fleet_view(view)
        self._intake.fleet_limits.on_fleet_view(view)

    def on_pauses(self, item: Item | None, began: float) -> None:
        """Replace the pauses by their row as it was read. `began`: see `KnownPauses`."""
        self._known_pauses.on_row(item, began=began)

    def cancel(self, versions: frozenset[str]) -> None:
        """Cancel the handlers whose cancellations set these Versions."""
        self._dispatcher.cancel(versions)

    def drain(self) -> None:
        """Request the shutdown of the whole worker, not of this incarnation alone."""
        self._shutdown.request()

    def fence(self, reason: str, *, paused: bool) -> None:
        """Stop claiming and interrupt all handlers. `paused`: the process was suspended."""
        if self._fenced.is_set():
            return
        self._fenced.set()
        self._events.emit(
            WorkerFenced(
                worker_id=self.worker_id, reason=reason, in_flight=self._slots.used, paused=paused
            )
        )
        self._dispatcher.interrupt_all(Interruption.PAUSED if paused else Interruption.FENCED)

    @property
    def has_stuck(self) -> bool:
        """Whether handlers still run that did not end after their cancellation."""
        return bool(self._dispatcher.stuck)

    @property
    def stuck_threads(self) -> int:
        """The number of those handlers that run in threads."""
        return sum(attempt.handler.in_thread for attempt in self._dispatcher.stuck)

    async def run(self, tasks: RequestTasks, on_started: Callable[[str], None]) -> bool:
        """Work until shutdown is requested or the worker is fenced; return whether it was fenced.

        The tasks of requests are started in `tasks`. `on_started` is called with
        the worker id once the row is registered. Raises StoreError if it cannot be registered.
        """
        heartbeat = self._dependencies.heartbeat_runner(self._row, self._worker_status, self)
        async with heartbeat as remove_row:  # LEASE-1: registers the row before the first claim
            try:
                await self._serve(tasks, on_started)
                if not self._fenced.is_set():
                    await self._wait_for_handlers()
            finally:
                # Shielded, because requests must be settled even if this task was cancelled.
                with anyio.CancelScope(shield=True):
                    await self._end(remove_row)
        return self._fenced.is_set()

    async def _serve(self, tasks: RequestTasks, on_started: Callable[[str], None]) -> None:
        """Run all loops until shutdown is requested or the worker is fenced."""
        async with anyio.create_task_group() as loops:
            self._start_loops(loops, partial(self._dispatcher.start, tasks))
            on_started(self.worker_id)
            try:
                await first_of(self._shutdown.requested, self._fenced)
            except anyio.get_cancelled_exc_class():
                self._dispatcher.interrupt_all(Interruption.RELEASED)
                raise
            finally:
                self._draining = True
                self._dispatcher.drain()
                self._intake.claimer.tighten(_CLAIM_TIMEOUT)
            loops.cancel_scope.cancel()

    def _start_loops(self, tasks: TaskGroup, start: Callable[[ClaimCall], object]) -> None:
        dependencies, intake = self._dependencies, self._intake
        poller = intake.poller(self._membership, start)
        every = partial(run_every, runtime=dependencies.runtime)
        tasks.start_soon(partial(every, poller.pause, poller.step, name="poll", sleep=poller.sleep))
        intake.rate_limits.start(tasks, every)
        clock = dependencies.server_clock
        tasks.start_soon(
            partial(every, clock.pause, partial(clock.check, self._events), name="clock")
        )
        tasks.start_soon(partial(every, lambda _: 0.0, self._rescue, name="rescue"))
        maintenance = maintenance_loops(
            stores=dependencies.stores,
            seen_requests=intake.seen_requests,
            known_pauses=self._known_pauses,
            membership=self._membership,
            settings=self._settings,
            runtime=dependencies.runtime,
        )
        for name, service in maintenance:
            tasks.start_soon(partial(every, service.pause, service.step, name=name))
        for name, loop in dependencies.schedules.loops(self._row, self._membership):
            tasks.start_soon(partial(every, loop.pause, loop.step, name=name))

    async def _rescue(self) -> RescueCounts:
        """Wait for the next view of the fleet. Then sweep, if our own lease is safe (LEASE-5)."""
        view = await self._membership.wait_for_view()
        return await self._rescuer.step(view) if self._membership.lease_is_safe else RescueCounts()

    async def _wait_for_handlers(self) -> None:
        """Wait for all handlers, up to `drain_timeout`, a forced shutdown or a fence."""
        self._events.emit(WorkerDraining(worker_id=self.worker_id, in_flight=self._slots.held))
        with anyio.move_on_after(self._settings.drain_timeout):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(then_cancel, self._shutdown.forced, waiting.cancel_scope)
                waiting.start_soon(then_cancel, self._fenced, waiting.cancel_scope)
                await self._slots.wait_settled()
                waiting.cancel_scope.cancel()

    async def _end(self, remove_row: RemoveRow) -> None:
        """Interrupt the handlers that still run, settle their requests and remove the row."""
        seconds = self._settings.handler.cancel_grace + _WRITE_TIMEOUT
        fenced = self._fenced.is_set()
        self._dispatcher.interrupt_all(Interruption.FENCED if fenced else Interruption.RELEASED)
        async with anyio.create_task_group() as tasks:
            released = anyio.Event()
            tasks.start_soon(self._release_claims, released)
            tasks.start_soon(self._give_up_settling, seconds)

            async def settled() -> None:
                await self._slots.wait_settled()
                await released.wait()

            await ended_within(seconds + _SETTLE_MARGIN, settled)
            tasks.cancel_scope.cancel()
        if self._slots.held:
            # DRAIN-2: the row remains. Other workers see it expire, and rescue the requests.
            return
        # If the removal fails the lease expires, and the leader removes the row.
        with suppress(StoreError, TimeoutError), anyio.move_on_after(REMOVE_TIMEOUT):
            await remove_row()

    async def _give_up_settling(self, seconds: float) -> None:
        """Give up the writes of outcomes after this many seconds. A pause does not use them up."""
        await sleep_running(seconds)
        self._settler.tighten(0)

    async def _release_claims(self, released: anyio.Event) -> None:
        """Release the claims whose writes had no answer (CLAIM-2). Others rescue the remaining."""
        with suppress(StoreError), ungrouped():
            await self._intake.claimer.release_all_unanswered()
        released.set()

    def _worker_status(self) -> WorkerStatus:
        draining = self._draining or self._shutdown.requested.is_set()
        return WorkerStatus(
            in_flight=self._slots.in_flight,
            draining=draining,
            sweeps=self._rescuer.sweeps,
            shares=self._intake.fleet_limits.shares(draining=draining),
        )

    def _make_row(self, started: datetime) -> WorkerRow:
        return WorkerRow(
            worker_id=self.worker_id,
            started_at=started,
            host=socket.gethostname(),
            pid=os.getpid(),
            release=package_version("streamer-worker"),
            actions=frozenset(self._dependencies.registry),
            schedules=self._dependencies.schedules.listings,
            concurrency=self._settings.concurrency,
            lanes=True,
            pauses=True,
            shares=self._intake.fleet_limits.shares(),
        )
