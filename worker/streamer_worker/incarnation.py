"""One incarnation of a worker: from the writing of its row to the last write."""

from __future__ import annotations

import math
import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from streamer_store import Clock, StoreError, Stores, WorkerRow
from streamer_store.clock import new_id
from streamer_store.errors import ungrouped
from streamer_store.release import package_version
from streamer_worker.concurrency.periodic import run_every
from streamer_worker.concurrency.shutdown import Shutdown, first_of, then_cancel
from streamer_worker.events import Events, WorkerDraining, WorkerFenced
from streamer_worker.execution.attempt import Interruption
from streamer_worker.execution.dispatcher import Dispatcher
from streamer_worker.execution.invoker import Invoker
from streamer_worker.execution.settler import Settler
from streamer_worker.fleet.heartbeat import REMOVAL, WorkerStatus
from streamer_worker.fleet.heartbeat_thread import HeartbeatRunner, RemoveRow
from streamer_worker.fleet.view import FleetView
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.limits import Limits
from streamer_worker.intake.poller import Poller
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.slots import Assignment, Slots
from streamer_worker.maintenance.queue_depth import DepthGauge
from streamer_worker.maintenance.reaper import Reaper
from streamer_worker.maintenance.rescuer import RescueCounts, Rescuer
from streamer_worker.maintenance.unhandled import UnhandledGauge
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.push_thread import PushOpener
from streamer_worker.settings import Settings

_LAST_CLAIMS = 5.0
_LAST_WRITES = 8.0
_LAST_ENDS = 1.0
# The longest end of a life, beside its drain_timeout and its handlers' cancel_grace.
LIFE_SECONDS = _LAST_CLAIMS + _LAST_WRITES + _LAST_ENDS + REMOVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What every incarnation of a worker is built from."""

    settings: Settings
    stores: Stores
    registry: Registry
    heartbeat_runner: HeartbeatRunner
    push: PushOpener
    events: Events
    clock: Clock
    rng: random.Random


class Incarnation:
    """Runs once. What its row tells reaches it through the methods of Orders. `invoker` has the
    process's threads; `lost_threads` counts those that other lives have left in it.
    """

    def __init__(
        self,
        parts: Dependencies,
        stop: Shutdown,
        *,
        invoker: Invoker,
        announcer: Announcer,
        lost_threads: Callable[[], int],
    ) -> None:
        started = parts.clock.now()
        self.worker_id = f"{started:%Y%m%dT%H%M%SZ}-{new_id(parts.rng)[:13]}"
        self._parts = parts
        self._settings = parts.settings
        self._events = parts.events
        self._shutdown = stop
        self._row = self._make_row(started)
        self._view = FleetView(live=(self._row,))
        self._looked = anyio.Event()
        self._fenced = anyio.Event()
        self._draining = False
        self._last_heartbeat = parts.clock.steady()
        self._slots = Slots(parts.settings.concurrency, events=parts.events)
        probation = Probation(
            free_from=parts.clock.steady() + parts.settings.rescue.min_worker_age,
            clock=parts.clock,
        )
        self._limits = Limits(
            registry=parts.registry,
            slots=self._slots,
            probation=probation,
            settings=parts.settings,
            lost_threads=lost_threads,
        )
        self._settler = Settler(
            requests=parts.stores.requests,
            announcer=announcer,
            events=parts.events,
            rng=parts.rng,
        )
        self._dispatcher = Dispatcher(
            registry=parts.registry,
            requests=parts.stores.requests,
            settler=self._settler,
            slots=self._slots,
            invoker=invoker,
            announcer=announcer,
            settings=parts.settings.handler,
            max_rescues=parts.settings.rescue.max_rescues,
            events=parts.events,
            clock=parts.clock,
            rng=parts.rng,
        )
        self._seen_requests = SeenRequests(clock=parts.clock)
        self._claimer = Claimer(
            worker_id=self.worker_id,
            requests=parts.stores.requests,
            slots=self._slots,
            seen_requests=self._seen_requests,
            probation=probation,
            announcer=announcer,
            events=parts.events,
            clock=parts.clock,
            rng=parts.rng,
        )
        self._rescuer = Rescuer(
            worker_id=self.worker_id,
            requests=parts.stores.requests,
            workers=parts.stores.workers,
            claimer=self._claimer,
            announcer=announcer,
            slots=self._slots,
            settings=parts.settings.presence,
            max_rescues=parts.settings.rescue.max_rescues,
            events=parts.events,
            clock=parts.clock,
        )

    def on_heartbeat(self, began: float) -> None:
        self._last_heartbeat = began

    def on_fleet_view(self, view: FleetView) -> None:
        self._view = view
        looked, self._looked = self._looked, anyio.Event()
        looked.set()

    def cancel(self, versions: frozenset[str]) -> None:
        self._dispatcher.cancel(versions)

    def drain(self) -> None:
        self._shutdown.request()

    def fence(self, reason: str, *, paused: bool) -> None:
        if self._fenced.is_set():
            return
        self._fenced.set()
        self._events.emit(
            WorkerFenced(
                worker_id=self.worker_id,
                reason=reason,
                in_flight=self._slots.used,
                paused=paused,
            )
        )
        self._dispatcher.interrupt_all(Interruption.PAUSED if paused else Interruption.FENCED)

    @property
    def has_stuck(self) -> bool:
        """Whether handlers run on that did not end when they were told to."""
        return bool(self._dispatcher.stuck)

    @property
    def stuck_threads(self) -> int:
        return sum(each.handler.in_thread for each in self._dispatcher.stuck)

    async def run(self, handlers: TaskGroup, started: Callable[[str], None]) -> bool:
        """Work until stopped or fenced, with `handlers` as the tasks of the claims; return
        whether it was fenced. `started` is told the worker's id when it has its row.

        Raises what the store raises when the row cannot be written.
        """
        async with self._parts.heartbeat_runner(self._row, self._worker_status, self) as remove_row:
            try:
                await self._work(handlers, started)
                if not self._fenced.is_set():
                    await self._let_finish()
            finally:
                # Also when we are cancelled: the last writes must not take their hour.
                with anyio.CancelScope(shield=True):
                    await self._end(remove_row)
        return self._fenced.is_set()

    async def _work(self, handlers: TaskGroup, started: Callable[[str], None]) -> None:
        send, receive = anyio.create_memory_object_stream[Assignment](math.inf)
        handlers.start_soon(self._dispatcher.run, receive, handlers)
        with send:
            async with anyio.create_task_group() as loops:
                self._start_loops(loops, send)
                started(self.worker_id)
                try:
                    await first_of(self._shutdown.requested, self._fenced)
                finally:
                    self._draining = True
                    self._dispatcher.drain()
                    self._claimer.tighten(_LAST_CLAIMS)
                loops.cancel_scope.cancel()

    def _start_loops(
        self, tasks: TaskGroup, assignments: MemoryObjectSendStream[Assignment]
    ) -> None:
        parts = self._parts
        poller = Poller(
            worker_id=self.worker_id,
            requests=parts.stores.requests,
            claimer=self._claimer,
            assignments=assignments,
            seen_requests=self._seen_requests,
            slots=self._slots,
            limits=self._limits,
            fleet=lambda: self._view,
            lease_is_safe=self._lease_is_safe,
            settings=self._settings.poll,
            events=parts.events,
            clock=parts.clock,
            rng=parts.rng,
        )
        every = partial(run_every, events=parts.events, rng=parts.rng)
        tasks.start_soon(partial(every, poller.pause, poller.step, name="poll"))
        tasks.start_soon(partial(every, lambda _: 0.0, self._rescue, name="rescue"))
        if self._settings.reaper.enabled:
            reaper = Reaper(
                connections=parts.stores.connections,
                settings=self._settings.reaper,
                leads=lambda: self._view.leads,
                events=parts.events,
                clock=parts.clock,
            )
            tasks.start_soon(partial(every, reaper.pause, reaper.step, name="reap"))
        depth = DepthGauge(
            requests=parts.stores.requests,
            settings=self._settings.depth,
            leads=lambda: self._view.leads,
            events=parts.events,
            clock=parts.clock,
        )
        tasks.start_soon(partial(every, depth.pause, depth.step, name="depth"))
        unhandled = UnhandledGauge(
            requests=parts.stores.requests,
            seen_requests=self._seen_requests,
            fleet=lambda: self._view,
            settings=self._settings.depth,
            events=parts.events,
            clock=parts.clock,
        )
        tasks.start_soon(partial(every, unhandled.pause, unhandled.step, name="unhandled"))

    def _lease_is_safe(self) -> bool:
        """Whether the others are sure to see us alive for a while yet."""
        age = self._parts.clock.steady() - self._last_heartbeat
        return age < self._settings.presence.lease / 2

    async def _rescue(self) -> RescueCounts:
        """Sweep after each look at the fleet, while our own beats succeed."""
        await self._looked.wait()
        if not self._lease_is_safe():
            return RescueCounts()
        return await self._rescuer.step(self._view)

    async def _let_finish(self) -> None:
        """Let handlers finish for a while."""
        self._events.emit(WorkerDraining(worker_id=self.worker_id, in_flight=self._slots.held))
        with anyio.move_on_after(self._settings.drain_timeout):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(then_cancel, self._shutdown.forced, waiting.cancel_scope)
                waiting.start_soon(then_cancel, self._fenced, waiting.cancel_scope)
                await self._slots.wait_settled()
                waiting.cancel_scope.cancel()

    async def _end(self, remove_row: RemoveRow) -> None:
        """Interrupt what still runs, write what became of it, and go."""
        latest = self._settings.handler.cancel_grace + _LAST_WRITES
        self._settler.tighten(latest)
        fenced = self._fenced.is_set()
        self._dispatcher.interrupt_all(Interruption.FENCED if fenced else Interruption.RELEASED)
        with anyio.move_on_after(latest + _LAST_ENDS):
            async with anyio.create_task_group() as last:
                last.start_soon(self._give_back)
                await self._slots.wait_settled()
        if self._slots.held:
            return  # others rescue it: for that the row must be there, or be nobody's
        # Where this fails nobody renews the row, nothing bears its id, and the leader buries it.
        with suppress(StoreError, TimeoutError), anyio.move_on_after(REMOVAL):
            await remove_row()

    async def _give_back(self) -> None:
        with suppress(StoreError), ungrouped():  # what stays is rescued
            await self._claimer.give_back_all()

    def _worker_status(self) -> WorkerStatus:
        return WorkerStatus(
            in_flight=self._slots.used, draining=self._draining, sweeps=self._rescuer.sweeps
        )

    def _make_row(self, started: datetime) -> WorkerRow:
        return WorkerRow(
            worker_id=self.worker_id,
            started_at=started,
            host=socket.gethostname(),
            pid=os.getpid(),
            release=package_version("streamer-worker"),
            actions=frozenset(self._parts.registry),
            concurrency=self._settings.concurrency,
        )
