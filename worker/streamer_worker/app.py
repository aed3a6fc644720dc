"""The only place where a worker's objects are built. Owns the task groups."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.streams.memory import MemoryObjectSendStream

from streamer_store import Claim, Clock, Stores, SystemClock, Undecodable, open_stores
from streamer_store.clock import new_id
from streamer_worker.dispatcher import Dispatcher
from streamer_worker.errors import TablesError
from streamer_worker.events import (
    Events,
    ItemUndecodable,
    Listener,
    TableDiffers,
    WorkerDraining,
    WorkerStarted,
    WorkerStopped,
)
from streamer_worker.handlers.registry import Registry
from streamer_worker.http import metrics_server
from streamer_worker.loops import run_every
from streamer_worker.metrics import Metrics
from streamer_worker.poller import Poller
from streamer_worker.reaper import Reaper
from streamer_worker.settings import Settings
from streamer_worker.settle import Settler
from streamer_worker.slots import Slots

_LAST_CLAIMS = 5.0
_LAST_WRITES = 10.0
_SPARE_CONNECTIONS = 10


class App:
    """One incarnation of a worker: `run` it once, `stop` it from anywhere in its loop."""

    def __init__(
        self,
        *,
        settings: Settings,
        stores: Stores,
        registry: Registry,
        metrics: Metrics,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.worker_id = f"{clock.now():%Y%m%dT%H%M%SZ}-{new_id(rng)[:13]}"
        self._metrics = metrics
        self._settings = settings
        self.stores = stores
        self._registry = registry
        self._clock = clock
        self._rng = rng
        self._events = events
        self._stop = anyio.Event()
        self._hurry = anyio.Event()
        self._slots = Slots(settings.concurrency, events=self._events)
        self._settler = Settler(requests=stores.requests, events=self._events, rng=rng)
        self._dispatcher = Dispatcher(
            registry=registry,
            requests=stores.requests,
            settler=self._settler,
            slots=self._slots,
            events=self._events,
            clock=clock,
        )

    def stop(self) -> None:
        """Drain and end; asked again, wait for no handler."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self, *, task_status: TaskStatus[str | None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until stopped. Once polling, the status is started with the URL of /metrics.

        Raises TablesError and StartError before any work is done.
        """
        await self._check_tables()
        with metrics_server(self._settings.http, self._metrics.registry) as metrics_url:
            async with anyio.create_task_group() as handlers:
                send, receive = anyio.create_memory_object_stream[Claim](math.inf)
                handlers.start_soon(self._dispatcher.run, receive, handlers)
                try:
                    with send:
                        async with anyio.create_task_group() as loops:
                            poller = self._start_loops(loops, send)
                            self._tell_started(metrics_url)
                            task_status.started(metrics_url)
                            try:
                                await self._stop.wait()
                            finally:
                                self._dispatcher.drain()
                                poller.hurry(_LAST_CLAIMS)
                            loops.cancel_scope.cancel()
                    await self._drain()
                finally:
                    # Also when we are cancelled: the last writes must not take their hour.
                    self._settler.hurry(_LAST_WRITES)
                    self._dispatcher.interrupt()
                    handlers.cancel_scope.cancel()
        self._events.emit(WorkerStopped(worker_id=self.worker_id))

    def _start_loops(self, tasks: TaskGroup, claims: MemoryObjectSendStream[Claim]) -> Poller:
        poller = Poller(
            requests=self.stores.requests,
            claims=claims,
            slots=self._slots,
            worker_id=self.worker_id,
            settings=self._settings.poll,
            events=self._events,
            clock=self._clock,
            rng=self._rng,
        )
        every = partial(run_every, events=self._events, rng=self._rng)
        tasks.start_soon(partial(every, poller.pause, poller.step, name="poll"))
        if self._settings.reaper.enabled:
            reaper = Reaper(
                connections=self.stores.connections,
                settings=self._settings.reaper,
                events=self._events,
                clock=self._clock,
            )
            tasks.start_soon(partial(every, reaper.pause, reaper.step, name="reap"))
        return poller

    async def _check_tables(self) -> None:
        differences = await self.stores.check_tables()
        faults = [str(each) for each in differences if each.blocking]
        if faults:
            raise TablesError("the tables are not as the worker needs them:", faults)
        for each in differences:
            self._events.emit(TableDiffers(table=each.table, text=each.text))

    def _tell_started(self, metrics_url: str | None) -> None:
        self._events.emit(
            WorkerStarted(
                worker_id=self.worker_id,
                actions=tuple(sorted(self._registry)),
                concurrency=self._settings.concurrency,
                metrics_url=metrics_url,
            )
        )

    async def _drain(self) -> None:
        """Let handlers finish for a while; `run` then cancels them and releases their requests."""
        in_flight = self._slots.used
        self._events.emit(WorkerDraining(worker_id=self.worker_id, in_flight=in_flight))
        with anyio.move_on_after(self._settings.drain_timeout):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(self._skip_wait_when_hurried, waiting.cancel_scope)
                await self._slots.wait_idle()
                waiting.cancel_scope.cancel()

    async def _skip_wait_when_hurried(self, scope: anyio.CancelScope) -> None:
        await self._hurry.wait()
        scope.cancel()


@asynccontextmanager
async def open_app(
    settings: Settings, registry: Registry, listeners: Iterable[Listener] = ()
) -> AsyncIterator[App]:
    """Build a worker on DynamoDB, its clients open for as long as the context."""
    clock = SystemClock()
    rng = random.SystemRandom()
    metrics = Metrics(actions=registry)
    events = Events(metrics, *listeners)

    def report(error: Undecodable) -> None:
        events.emit(ItemUndecodable(table=error.table, key=error.key, reason=error.reason))

    async with open_stores(
        **store_arguments(settings),
        max_connections=settings.concurrency + _SPARE_CONNECTIONS,
        clock=clock,
        rng=rng,
        report=report,
    ) as stores:
        yield App(
            settings=settings,
            stores=stores,
            registry=registry,
            metrics=metrics,
            events=events,
            clock=clock,
            rng=rng,
        )


def store_arguments(settings: Settings) -> dict[str, Any]:
    """Return what `open_stores` is told of these settings."""
    return {
        "endpoint_url": settings.endpoint_url,
        "region": settings.region,
        "prefix": settings.table_prefix,
    }
