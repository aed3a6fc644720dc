"""Events -> Prometheus. Labels never hold ids, users or tenants."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from itertools import product
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from streamer_store import CallEnded, Clock, RequestStatus, TryFailed
from streamer_store.release import release_of
from streamer_store.schema import TABLES
from streamer_worker.events import (
    ClaimTried,
    ConnectionsReaped,
    Event,
    FleetLooked,
    HandlerStuck,
    HeartbeatTried,
    ItemUndecodable,
    LoopBlocked,
    LoopTurned,
    Polled,
    ProgressWritten,
    PushTried,
    QueueMeasured,
    RequestFinished,
    RequestRescued,
    SlotsChanged,
    StepFailed,
    StuckHandlerEnded,
    WorkerDraining,
    WorkerFenced,
    WorkerStarted,
    WriteFenced,
)
from streamer_worker.handlers.definition import Handler

PREFIX: Final = "streamer_worker"
OTHER: Final = "other"
_DURATIONS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_CALLS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LAGS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
_ATTEMPTS: Final = (1, 2, 3, 4, 5, 10, 20)
_OUTCOMES: Final = (
    *("completed", "failed", "retried", "snoozed", "cancelled", "timeout", "claim_lost"),
    *("released", "unsettled"),
)
_ENDS: Final = frozenset({"completed", "failed", "cancelled", "timeout"})
_SETTLES: Final = ("complete", "fail", "retry", "release")
_TABLE_NAMES: Final = tuple(each.name for each in TABLES)
_SNOOZED: Final = "SNOOZED"


class Metrics:
    """A listener with a registry of its own. Actions that nobody registered count as `other`.

    Counters whose labels are known from the start are there from the start: rates and alerts
    miss the first count otherwise.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], *, clock: Clock, reaps: bool = True
    ) -> None:
        # Series that tell since when others count.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._clock = clock
        self._began = False
        self._reaps = reaps
        self._actions = frozenset(handlers)
        actions = (*sorted(handlers), OTHER)
        self._add_requests(actions)
        self._add_queue()
        self._add_fleet(actions)
        self._add_writes()
        self._add_tables()
        self._tell_build(handlers)
        ProcessCollector(registry=self.registry)

    def __call__(self, event: Event) -> None:
        match event:
            case CallEnded() | TryFailed():
                self._tell_table(event)
            case RequestFinished():
                self._tell_finished(event)
            case SlotsChanged(used=used, total=total):
                self._slots.labels("used").set(used)
                self._slots.labels("free").set(total - used)
            case Polled(outcome=outcome, seconds=seconds):
                self._polls.labels(outcome).inc()
                if outcome != "skipped":
                    self._poll_duration.observe(seconds)
                    self._last_poll.set(self._now())
            case ClaimTried(outcome=outcome, action=action, waited=waited):
                self._claims.labels(outcome).inc()
                if waited is not None:
                    self._wait.labels(self._label(action)).observe(waited)
            case StepFailed(loop=loop):
                self._failures.labels(loop).inc()
                if loop == "poll":
                    self._polls.labels("error").inc()
            case _:
                self._tell_writes(event)
                self._tell_fleet(event)
                self._tell_process(event)

    def _tell_finished(self, event: RequestFinished) -> None:
        action = self._label(event.action)
        self._finished.labels(action, event.outcome).inc()
        self._duration.labels(action, event.outcome).observe(event.seconds)
        if event.again:
            self._retries.labels(action, event.code or _SNOOZED).inc()
        elif event.outcome in _ENDS:
            self._attempts.labels(action).observe(event.attempt)

    def _tell_writes(self, event: Event) -> None:
        match event:
            case ProgressWritten(told=told):
                self._progress.labels("written").inc()
                self._progress.labels("coalesced").inc(max(0, told - 1))
            case WriteFenced(operation=operation, cancelled=cancelled, settles=settles):
                if not cancelled:
                    self._fenced.labels(operation).inc()
                if settles:
                    self._superseded.labels(operation).inc()
            case PushTried(type=kind, outcome=outcome, count=count):
                self._pushes.labels(kind, outcome).inc(count)
            case ConnectionsReaped():
                self._tell_reaped(event)
            case ItemUndecodable(table=table):
                names = (each for each in _TABLE_NAMES if table.endswith(each))
                self._undecodable.labels(next(names, OTHER)).inc()
            case QueueMeasured(status=status, count=count, oldest=oldest):
                self._depth.labels(status).set(count)
                self._oldest.labels(status).set(oldest or 0.0)
            case _:
                pass

    def _tell_fleet(self, event: Event) -> None:
        match event:
            case HeartbeatTried(outcome=outcome):
                self._heartbeats.labels(outcome).inc()
            case FleetLooked(live=live, dead=dead, leads=leads):
                self._workers.labels("live").set(live)
                self._workers.labels("dead").set(dead)
                self._lead(leads=leads)
            case RequestRescued(action=action, status=status):
                self._rescued.labels(self._label(action)).inc()
                if status == RequestStatus.RETRYING:
                    self._retries.labels(self._label(action), "WORKER_LOST").inc()
            case WorkerStarted():
                self._begin()
            case WorkerDraining():
                self._draining.set(1)
                self._lead(leads=False)
            case WorkerFenced():
                self._fences.inc()
                self._lead(leads=False)
            case _:
                pass

    def _tell_process(self, event: Event) -> None:
        match event:
            case LoopTurned(lag=lag):
                self._lag.observe(lag)
            case LoopBlocked():
                self._blocked.inc()
            case HandlerStuck(thread=thread):
                self._stuck.labels("thread" if thread else "task").inc()
            case StuckHandlerEnded(thread=thread):
                self._stuck.labels("thread" if thread else "task").dec()
            case _:
                pass

    def _tell_table(self, event: CallEnded | TryFailed) -> None:
        match event:
            case CallEnded(operation=operation, seconds=seconds, capacity=capacity):
                self._calls.labels(operation).observe(seconds)
                for each in capacity:
                    self._consumed.labels(each.table, each.index, operation).inc(each.units)
            case TryFailed(operation=operation, code=code, throttled=throttled):
                self._call_errors.labels(operation, code).inc()
                if throttled:
                    self._throttles.labels(operation).inc()

    def _tell_reaped(self, event: ConnectionsReaped) -> None:
        would_go = event.found if event.dry_run else 0
        self._reaped.labels("deleted").inc(event.deleted)
        self._reaped.labels("kept").inc(event.kept)
        self._reaped.labels("undecodable").inc(event.undecodable)
        self._reaped.labels("dry_run").inc(would_go)
        if self._reaps:
            self._last_reaped.set(self._now())

    def _begin(self) -> None:
        """What has never succeeded is as old as this worker."""
        if not self._began:
            self._began = True
            self._last_poll.set(self._now())
            if self._reaps:
                self._last_reaped.set(self._now())

    def _lead(self, *, leads: bool) -> None:
        """Who leads no more must not go on telling what it counted last."""
        self._leader.set(leads)
        if not leads:
            self._depth.clear()
            self._oldest.clear()

    def _label(self, action: str | None) -> str:
        return action if action is not None and action in self._actions else OTHER

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _add_requests(self, actions: tuple[str, ...]) -> None:
        self._finished = self._counter(
            "requests_finished",
            "Attempts that ended, by what became of the request",
            action=actions,
            outcome=_OUTCOMES,
        )
        self._duration = self._histogram(
            "request_duration_seconds",
            "Time from the start of an attempt until its outcome was written",
            _DURATIONS,
            "action",
            "outcome",
        )
        self._wait = self._histogram(
            "request_wait_seconds",
            "Time from when a request could be claimed (created, or due again) until it was",
            _DURATIONS,
            "action",
        )
        self._attempts = self._histogram(
            "request_attempts", "Attempts that ended requests have taken", _ATTEMPTS, "action"
        )
        self._retries = self._counter(
            "retries",
            "Further attempts ordered: by an error's code, or SNOOZED at the handler's own wish",
            action=(),
            reason=(),
        )

    def _add_queue(self) -> None:
        self._claims = self._counter(
            "claims", "Claims tried; lost: another was first", outcome=("won", "lost", "error")
        )
        self._slots = self._gauge("slots", "Slots for requests", "state")
        self._polls = self._counter(
            "polls",
            "Looks at what waits; skipped: while its heartbeats fail, it must not claim",
            outcome=("claimed", "empty", "error", "skipped"),
        )
        self._poll_duration = self._histogram(
            "poll_duration_seconds", "Time of a look, with its claims", _CALLS
        )
        self._last_poll = self._gauge(
            "last_poll_success_timestamp_seconds",
            "When a look last succeeded, or it started",
        )
        self._depth = self._gauge(
            "queue_depth",
            "Requests of a status, counted up to depth.limit; by the leader only",
            "status",
        )
        self._oldest = self._gauge(
            "queue_oldest_age_seconds",
            "Time since the oldest request of a status was created; by the leader only",
            "status",
        )

    def _add_fleet(self, actions: tuple[str, ...]) -> None:
        self._heartbeats = self._counter(
            "heartbeats", "Heartbeats tried", outcome=("beaten", "failed", "gone")
        )
        self._workers = self._gauge("workers", "Workers as this one sees them", "state")
        self._leader = self._gauge("leader", "1 where this worker does the fleet's sweeps")
        self._draining = self._gauge("draining", "1 once it takes no more requests")
        self._rescued = self._counter(
            "rescued", "Requests taken from workers that are gone", action=actions
        )
        self._fences = self._counter("fences", "Times it had to take itself for dead")
        self._lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop comes to a timer", _LAGS
        )
        self._blocked = self._counter("loop_blocked", "Times the event loop stood for a second")
        self._failures = self._counter("loop_failures", "Rounds of a loop that failed", loop=())
        self._stuck = self._gauge(
            "stuck_handlers", "Handlers that run on though they were told to end", "kind"
        )

    def _add_writes(self) -> None:
        self._fenced = self._counter(
            "fenced_writes",
            "Writes refused because another has the request",
            operation=(*_SETTLES, "progress", "checkpoint"),
        )
        self._superseded = self._counter(
            "superseded_writes",
            "Outcomes not written because the request was cancelled, or another has it",
            operation=_SETTLES,
        )
        self._progress = self._counter(
            "progress_writes",
            "Reports of progress: written, or carried by a later one's write",
            result=("written", "coalesced"),
        )
        self._pushes = self._counter(
            "pushes", "Messages for connections, by what became of them", type=(), outcome=()
        )
        self._reaped = self._counter(
            "reaper_connections",
            "Connections that the reaper met",
            result=("deleted", "kept", "undecodable", "dry_run"),
        )
        if self._reaps:
            self._last_reaped = self._gauge(
                "reaper_last_success_timestamp_seconds",
                "When this worker last swept stale connections, or started",
            )
        self._undecodable = self._counter(
            "undecodable_items",
            "Items that do not read as what they should be",
            table=_TABLE_NAMES,
        )

    def _add_tables(self) -> None:
        self._calls = self._histogram(
            "dynamodb_request_duration_seconds",
            "Time of a call, with its tries",
            _CALLS,
            "operation",
        )
        self._call_errors = self._counter(
            "dynamodb_errors",
            "Tries that failed; conditions that were not met are none",
            operation=(),
            code=(),
        )
        self._throttles = self._counter(
            "dynamodb_throttles", "Tries that DynamoDB throttled", operation=()
        )
        self._consumed = self._counter(
            "dynamodb_consumed_capacity_units",
            "Units charged, as DynamoDB tells; it does not tell of calls that failed",
            table=(),
            index=(),
            operation=(),
        )

    def _tell_build(self, handlers: Mapping[str, Handler]) -> None:
        build = self._gauge("build_info", "1, and what runs", "version", "python")
        build.labels(release_of("streamer-worker"), platform.python_version()).set(1)
        info = self._gauge(
            "handler_info", "1 for each handler", "action", "kind", "distribution", "version"
        )
        for action, handler in handlers.items():
            package = handler.distribution or ""
            info.labels(action, handler.kind, package, release_of(package)).set(1)

    def _counter(self, name: str, text: str, **labels: tuple[str, ...]) -> Counter:
        made = Counter(name, text, list(labels), namespace=PREFIX, registry=self.registry)
        for values in product(*labels.values()) if labels else ():
            made.labels(*values)
        return made

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            name, text, labels, namespace=PREFIX, registry=self.registry, buckets=buckets
        )
