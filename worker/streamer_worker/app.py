"""A worker: it runs one incarnation after another, until shutdown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import anyio
from anyio.abc import TaskStatus

from streamer_store import Difference, StoreError
from streamer_store.errors import ungrouped
from streamer_store.release import package_version
from streamer_worker.concurrency.request_tasks import RequestTasks, open_request_tasks
from streamer_worker.concurrency.shutdown import Shutdown, then_cancel
from streamer_worker.errors import StartError, TablesError
from streamer_worker.events import Events, StepFailed, TableMismatch, WorkerStarted, WorkerStopped
from streamer_worker.execution.invoker import Invoker
from streamer_worker.execution.lifespans import Lifespans
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.handlers.registry import distributions_of
from streamer_worker.incarnation import Dependencies, Incarnation
from streamer_worker.monitoring.health import Health
from streamer_worker.monitoring.http_server import http_server
from streamer_worker.monitoring.metrics import Metrics
from streamer_worker.push.announcer import Announcer
from streamer_worker.retry import backoff

Result = TypeVar("Result")

# Pauses before the row of a later incarnation is written again, in seconds.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class App:
    """A worker, through all its incarnations. `run` may be called once.

    `leave` is called at the end if handlers still run that did not end after their cancellation.
    It ends the process.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        *,
        metrics: Metrics,
        health: Health,
        leave: Callable[[], object],
    ) -> None:
        self._dependencies = dependencies
        self._metrics = metrics
        self._health = health
        self._leave = leave
        self._shutdown = Shutdown()
        # The current one is the last. Earlier ones are kept while their handlers still run.
        self._incarnations: list[Incarnation] = []
        self._threads = anyio.CapacityLimiter(dependencies.settings.handler.threads)
        self._started = False
        self.stores = dependencies.stores

    @property
    def stopping(self) -> bool:
        """Whether shutdown was requested."""
        return self._shutdown.requested.is_set()

    def stop(self) -> None:
        """Drain and end. A second call skips waiting for handlers.

        Call it on the worker's event loop.
        """
        self._shutdown.signal()

    async def run(self, *, task_status: TaskStatus[str | None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until stopped. `task_status` gets the URL of /metrics once the worker has its row.

        Raises StartError and StoreError before any work is done, and LifespanError after it.
        """
        http = self._dependencies.settings.http
        with (
            ungrouped(StartError),
            http_server(http, self._metrics.registry, self._health, self._events) as metrics_url,
        ):
            differences = await self._unless_stopped(self.stores.check_tables)
            if differences is None:
                return
            self._check(differences)
            account = await self._unless_stopped(self._account)

            def on_started(worker_id: str) -> None:
                self._emit_started(worker_id, metrics_url, account)
                if not self._started:
                    self._started = True
                    task_status.started(metrics_url)

            async with open_request_tasks() as tasks:
                try:
                    await self._run_all(tasks, on_started)
                finally:
                    if any(incarnation.has_stuck for incarnation in self._incarnations):
                        self._leave()

    async def _run_all(self, tasks: RequestTasks, on_started: Callable[[str], None]) -> None:
        """Open push, processes and lifespans, and run incarnations until shutdown."""
        dependencies = self._dependencies
        settings = dependencies.settings
        lifespans = Lifespans(
            on_failed=self._shutdown.request, abandon=self._leave, events=self._events
        )
        async with (
            dependencies.push() as push,
            Processes(
                limit=settings.handler.processes,
                log=settings.log,
                events=self._events,
                grace=settings.handler.cancel_grace / 2,
            ) as processes,
            lifespans.open(
                dependencies.registry.values(), unless=self._shutdown.requested
            ) as states,
        ):
            if states is None:
                return
            invoker = Invoker(threads=self._threads, processes=processes, states=states)
            announcer = Announcer(
                push=push,
                clock=dependencies.runtime.clock,
                go_messages=settings.notifier.go_messages,
            )
            while await self._run_one(invoker, announcer, tasks, on_started):
                pass
            self._events.emit(WorkerStopped(worker_id=self._incarnations[-1].worker_id))

    @property
    def _events(self) -> Events:
        return self._dependencies.runtime.events

    async def _run_one(
        self,
        invoker: Invoker,
        announcer: Announcer,
        tasks: RequestTasks,
        on_started: Callable[[str], None],
    ) -> bool:
        """Run one incarnation; return whether it was fenced, so that another must follow.

        Raises StoreError if the row of the first incarnation cannot be registered, unless shutdown
        is requested. For later ones the registration is repeated until it succeeds or shutdown is
        requested.
        """
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._dependencies.runtime.rng)
        first = not self._incarnations
        while True:
            incarnation = Incarnation(
                self._dependencies,
                self._shutdown,
                invoker=invoker,
                announcer=announcer,
                lost_threads=self._lost_threads,
            )
            with_stuck = [earlier for earlier in self._incarnations if earlier.has_stuck]
            self._incarnations = [*with_stuck, incarnation]
            try:
                with ungrouped():
                    fenced = await incarnation.run(tasks, on_started)
            except StoreError as error:
                if first and not self.stopping:
                    raise
                self._events.emit(StepFailed(loop="register", error=error))
                await self._unless_stopped(partial(anyio.sleep, next(pauses)))
                if self.stopping:
                    return False
                continue
            return fenced and not self.stopping

    def _lost_threads(self) -> int:
        """Return the number of threads that handlers of earlier incarnations still hold."""
        return sum(earlier.stuck_threads for earlier in self._incarnations[:-1])

    async def _unless_stopped(self, work: Callable[[], Awaitable[Result]]) -> Result | None:
        """Do the work and return its result, or None if shutdown was requested before its end."""
        result = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(then_cancel, self._shutdown.requested, tasks.cancel_scope)
            result = await work()
            tasks.cancel_scope.cancel()
        return result

    def _check(self, differences: list[Difference]) -> None:
        """Raise TablesError for blocking differences, and emit an event for each other one."""
        faults = [str(difference) for difference in differences if difference.blocking]
        if faults:
            raise TablesError("the worker cannot work with these tables:", faults)
        for difference in differences:
            self._events.emit(TableMismatch(table=difference.table, text=difference.text))

    async def _account(self) -> str | None:
        with suppress(StoreError):  # the worker needs it for its first log line only
            return await self.stores.account()
        return None

    def _emit_started(self, worker_id: str, metrics_url: str | None, account: str | None) -> None:
        settings, registry = self._dependencies.settings, self._dependencies.registry
        target = self.stores.target
        tables = target.tables if target else settings.tables
        self._events.emit(
            WorkerStarted(
                worker_id=worker_id,
                actions=tuple(sorted(registry)),
                concurrency=settings.concurrency,
                metrics_url=metrics_url,
                endpoint=target.endpoint if target else None,
                region=target.region if target else None,
                account=account,
                table_prefix=tables.prefix,
                table_names=tuple(tables) if tables.prefix is None else None,
                release=package_version("streamer-worker"),
                distributions=distributions_of(registry),
            )
        )
