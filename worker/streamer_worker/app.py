"""The only place where a worker's objects are built."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus

from streamer_store import (
    Clock,
    Difference,
    StoreError,
    Stores,
    SystemClock,
    Undecodable,
    open_stores,
)
from streamer_store.errors import ungrouped
from streamer_worker.concurrency.shutdown import Shutdown, then_cancel
from streamer_worker.errors import StartError, TablesError
from streamer_worker.events import (
    Events,
    ItemUndecodable,
    Listener,
    StepFailed,
    TableMismatch,
    WorkerStarted,
    WorkerStopped,
)
from streamer_worker.execution.invoker import Invoker
from streamer_worker.execution.lifespans import CANCEL_TIMEOUT, EXIT_TIMEOUT, Lifespans
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.fleet.heartbeat_thread import heartbeat_here, heartbeat_on_thread
from streamer_worker.fleet.loop_watchdog import End, InterpreterWatchdog, telling
from streamer_worker.handlers.registry import Registry
from streamer_worker.incarnation import LIFE_SECONDS, Dependencies, Incarnation
from streamer_worker.monitoring.health import Health
from streamer_worker.monitoring.http_server import http_server
from streamer_worker.monitoring.metrics import Metrics
from streamer_worker.monitoring.systemd import Systemd
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.apigateway import open_poster
from streamer_worker.push.push_thread import (
    ENDS_WITHIN,
    FLUSH,
    PushOpener,
    push_off,
    push_on_thread,
)
from streamer_worker.retry import backoff
from streamer_worker.settings import Settings

Result = TypeVar("Result")

_SPARE_CONNECTIONS = 10
# The longest end of a worker, beside its drain_timeout, cancel_grace and exit_timeout.
LAST_SECONDS = LIFE_SECONDS + EXIT_TIMEOUT + CANCEL_TIMEOUT + FLUSH + ENDS_WITHIN
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class App:
    """A worker, through all its incarnations: `run` it once, `stop` it from anywhere in its
    loop. `leave` ends the process when handlers run on that nothing can end.
    """

    def __init__(
        self, parts: Dependencies, *, metrics: Metrics, health: Health, leave: Callable[[], object]
    ) -> None:
        self._parts = parts
        self._metrics = metrics
        self._health = health
        self._leave = leave
        self._shutdown = Shutdown()
        self._lives: list[Incarnation] = []
        self._threads = anyio.CapacityLimiter(parts.settings.handler.threads)
        self._begun = False
        self.stores = parts.stores

    @property
    def stopping(self) -> bool:
        return self._shutdown.requested.is_set()

    def stop(self) -> None:
        """Drain and end; asked again, wait for no handler."""
        self._shutdown.signal()

    async def run(self, *, task_status: TaskStatus[str | None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until stopped. Once polling, the status is started with the URL of /metrics.

        Raises StartError and StoreError before any work is done, and LifespanError after it.
        """
        http = self._parts.settings.http
        with (
            ungrouped(StartError),
            http_server(http, self._metrics.registry, self._health, self._events) as metrics_url,
        ):
            differences = await self._unless_stopped(self.stores.check_tables)
            if differences is None:
                return
            self._judge(differences)

            def started(worker_id: str) -> None:
                self._tell_started(worker_id, metrics_url)
                if not self._begun:
                    self._begun = True
                    task_status.started(metrics_url)

            async with anyio.create_task_group() as handlers:
                try:
                    await self._equipped(handlers, started)
                finally:
                    if any(life.has_stuck for life in self._lives):
                        self._leave()
                handlers.cancel_scope.cancel()

    async def _equipped(self, handlers: TaskGroup, started: Callable[[str], None]) -> None:
        """Open what handlers need beside the stores, and work through all incarnations."""
        parts = self._parts
        rules = parts.settings.handler
        lifespans = Lifespans(
            on_failed=self._shutdown.request, abandon=self._leave, events=parts.events
        )
        async with (
            parts.push() as push,
            Processes(
                limit=rules.processes,
                log=parts.settings.log,
                events=parts.events,
                grace=rules.cancel_grace / 2,
            ) as processes,
            lifespans.open(parts.registry.values(), unless=self._shutdown.requested) as states,
        ):
            if states is None:
                return
            invoker = Invoker(threads=self._threads, processes=processes, states=states)
            announcer = Announcer(push=push, clock=parts.clock)
            while await self._live(invoker, announcer, handlers, started):
                pass
            self._events.emit(WorkerStopped(worker_id=self._lives[-1].worker_id))

    @property
    def _events(self) -> Events:
        return self._parts.events

    async def _live(
        self,
        invoker: Invoker,
        announcer: Announcer,
        handlers: TaskGroup,
        started: Callable[[str], None],
    ) -> bool:
        """Run one incarnation; return whether another shall follow.

        Only the first may fail to begin: later ones wait until the table takes their row.
        """
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._parts.rng)
        first = not self._lives
        while True:
            life = Incarnation(
                self._parts,
                self._shutdown,
                invoker=invoker,
                announcer=announcer,
                lost_threads=self._lost_threads,
            )
            self._lives = [each for each in self._lives if each.has_stuck] + [life]
            try:
                with ungrouped():
                    fenced = await life.run(handlers, started)
            except StoreError as error:
                if first:
                    raise
                self._events.emit(StepFailed(loop="register", error=error))
                await self._unless_stopped(partial(anyio.sleep, next(pauses)))
                if self.stopping:
                    return False
                continue
            return fenced and not self.stopping

    def _lost_threads(self) -> int:
        return sum(life.stuck_threads for life in self._lives[:-1])

    async def _unless_stopped(self, work: Callable[[], Awaitable[Result]]) -> Result | None:
        """Do the work and return its result; None when we were stopped before it was done."""
        result = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(then_cancel, self._shutdown.requested, tasks.cancel_scope)
            result = await work()
            tasks.cancel_scope.cancel()
        return result

    def _judge(self, differences: list[Difference]) -> None:
        faults = [str(each) for each in differences if each.blocking]
        if faults:
            raise TablesError("the tables are not as the worker needs them:", faults)
        for each in differences:
            self._events.emit(TableMismatch(table=each.table, text=each.text))

    def _tell_started(self, worker_id: str, metrics_url: str | None) -> None:
        self._events.emit(
            WorkerStarted(
                worker_id=worker_id,
                actions=tuple(sorted(self._parts.registry)),
                concurrency=self._parts.settings.concurrency,
                metrics_url=metrics_url,
            )
        )


@asynccontextmanager
async def open_app(
    settings: Settings,
    registry: Registry,
    listeners: Iterable[Listener] = (),
    *,
    end: End,
    leave: Callable[[], object],
    watchdog: InterpreterWatchdog | None = None,
) -> AsyncIterator[App]:
    """Build a worker on DynamoDB, its clients open for as long as the context.

    `end` ends the process at once, for a reason; `leave` ends it when the work is done but
    handlers run on; `watchdog` ends it if an extension holds the interpreter's lock.
    """
    clock = SystemClock()
    rng = random.SystemRandom()
    metrics = Metrics(registry, clock=clock, reaps=settings.reaper.enabled)
    health = Health(settings=settings, clock=clock)
    systemd = Systemd(health=health, ends_within=longest_end(settings))
    events = Events(metrics, health, systemd, *listeners)

    def report(error: Undecodable) -> None:
        events.emit(ItemUndecodable(table=error.table, key=error.key, reason=error.reason))

    opened = partial(
        open_stores,
        **store_arguments(settings),
        clock=clock,
        rng=rng,
        report=report,
        observe=events.emit,
    )
    beat = settings.presence.heartbeat
    heartbeat_runner = heartbeat_on_thread(
        # A beat that is not answered soon is better tried again by the next one.
        open_stores=partial(
            opened,
            max_connections=4,
            connect_timeout=beat / 2,
            read_timeout=beat / 2,
            attempts=2,
            call_timeout=beat,
        ),
        settings=settings.presence,
        events=events,
        clock=clock,
        rng=rng,
        cpu=time.process_time,
        end=telling(events, end),
        watchdog=watchdog,
    )
    push: PushOpener = push_off
    if settings.push == "apigateway":
        rules = settings.notifier
        push = push_on_thread(
            open_stores=partial(opened, max_connections=_SPARE_CONNECTIONS),
            open_post=partial(
                open_poster,
                region=settings.region,
                seconds=rules.timeout,
                max_concurrent_posts=rules.max_concurrent_posts,
            ),
            settings=rules,
            events=events,
            clock=clock,
            rng=rng,
        )
    async with opened(max_connections=settings.concurrency + _SPARE_CONNECTIONS) as stores:
        parts = Dependencies(
            settings=settings,
            stores=stores,
            registry=registry,
            heartbeat_runner=heartbeat_runner,
            push=push,
            events=events,
            clock=clock,
            rng=rng,
        )
        with systemd:
            yield App(parts, metrics=metrics, health=health, leave=leave)


def longest_end(settings: Settings) -> float:
    """Return the seconds that a worker may take from being told to stop until it is gone."""
    own = settings.drain_timeout + settings.handler.cancel_grace + settings.exit_timeout
    return own + LAST_SECONDS


def app_on(
    stores: Stores,
    *,
    settings: Settings,
    registry: Registry,
    push: PushOpener,
    listeners: Iterable[Listener] = (),
    leave: Callable[[], object] = int,
    clock: Clock,
    rng: random.Random,
    cpu: Callable[[], float] = float,
) -> App:
    """Build a worker on these stores, its pulse on its own loop: for tests, and in memory.

    `cpu` gives the seconds of CPU that the worker has used: without it, none.
    """
    metrics = Metrics(registry, clock=clock, reaps=settings.reaper.enabled)
    health = Health(settings=settings, clock=clock)
    events = Events(metrics, health, *listeners)
    heartbeat_runner = heartbeat_here(
        workers=stores.workers,
        settings=settings.presence,
        events=events,
        clock=clock,
        rng=rng,
        cpu=cpu,
    )
    parts = Dependencies(
        settings=settings,
        stores=stores,
        registry=registry,
        heartbeat_runner=heartbeat_runner,
        push=push,
        events=events,
        clock=clock,
        rng=rng,
    )
    return App(parts, metrics=metrics, health=health, leave=leave)


def store_arguments(settings: Settings) -> dict[str, Any]:
    """Return what `open_stores` is told of these settings."""
    return {
        "endpoint_url": settings.endpoint_url,
        "region": settings.region,
        "prefix": settings.table_prefix,
    }
