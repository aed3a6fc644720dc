"""Counts events as Prometheus metrics. Labels never hold ids, users or tenants."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from streamer_store import (
    CacheUsed,
    CallEnded,
    Clock,
    RequestStatus,
    TableNames,
    TryFailed,
)
from streamer_store.schema import TABLES
from streamer_store.table_names import DEFAULT_NAMES
from streamer_worker.error_codes import WORKER_LOST
from streamer_worker.errors import StartError
from streamer_worker.events import (
    ClaimTried,
    ConnectionsReaped,
    Event,
    FleetObserved,
    HandlerStuck,
    HeartbeatTried,
    ItemUndecodable,
    LoopBlocked,
    LoopLagMeasured,
    Polled,
    ProgressWritten,
    PushTried,
    QueueMeasured,
    RequestFinished,
    RequestRescued,
    RequestStarted,
    SlotsChanged,
    StepFailed,
    StuckHandlerEnded,
    UnhandledMeasured,
    WorkerDraining,
    WorkerFenced,
    WorkerStarted,
    WriteFenced,
)
from streamer_worker.handlers.definition import Handler
from streamer_worker.monitoring.control_metrics import ControlMetrics
from streamer_worker.monitoring.metric_families import ACTION_CHARS, OTHER, Families, labelled
from streamer_worker.sanitize import one_line

# Outcomes after which a request has ended, unless another attempt follows.
_ENDS: Final = frozenset({"completed", "failed", "cancelled", "timeout"})
_SNOOZED: Final = "SNOOZED"
_NAMED_ACTIONS: Final = 10
"""How many unhandled actions have a label of their own."""
_MAX_SERIES: Final = 10_000
_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """A listener that updates the metrics in its own registry. May be called from any thread.

    handlers: the registered handlers, by action. Other actions count as `other`.
    reaps: whether this worker may reap connections.
    tables: the full names of the tables.
    schedules: the names of this worker's schedules.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        clock: Clock,
        reaps: bool = True,
        tables: TableNames = DEFAULT_NAMES,
        schedules: Iterable[str] = (),
    ) -> None:
        _check_directory(os.environ.get(_DIRECTORY))
        self.registry = CollectorRegistry()
        self._clock = clock
        self._has_started = False
        self._actions = frozenset(handlers)
        # Events have the full name of a table or its name in the schema.
        self._table_labels = {table.name: table.name for table in TABLES}
        self._table_labels |= {tables.of(table): table.name for table in TABLES}
        self._families = Families(self.registry, handlers, reaps=reaps, schedules=tuple(schedules))
        self._controls = ControlMetrics(
            self._families, action_label=self._action_label, now=self._now
        )
        # Looked up by their labels only once. Not for families that are cleared.
        self._series = lru_cache(_MAX_SERIES)(labelled)
        # The events of each request, poll or call. The others are rare.
        self._frequent: dict[type[Event], Callable[[Any], None]] = {
            CacheUsed: self._count_cache,
            CallEnded: self._count_call,
            TryFailed: self._count_call,
            ClaimTried: self._count_claim,
            Polled: self._count_poll,
            PushTried: self._count_push,
            RequestFinished: self._count_finished,
            RequestStarted: _ignore,
            SlotsChanged: self._show_slots,
            StepFailed: self._count_step,
        }

    def __call__(self, event: Event) -> None:
        count = self._frequent.get(type(event))
        if count is not None:
            count(event)
            return
        self._count_writes(event)
        self._show_fleet(event)
        self._show_process(event)
        self._controls(event)

    def _count_finished(self, event: RequestFinished) -> None:
        families = self._families
        action = self._action_label(event.action)
        self._series(families.finished, action, event.outcome).inc()
        self._series(families.duration, action, event.outcome).observe(event.seconds)
        if event.will_retry:
            families.retries.labels(action, event.code or _SNOOZED).inc()
        elif event.outcome in _ENDS:
            self._series(families.attempts, action).observe(event.attempt)

    def _count_claim(self, event: ClaimTried) -> None:
        self._series(self._families.claims, event.outcome).inc()
        if event.waited is not None:
            self._series(self._families.wait, self._action_label(event.action)).observe(
                event.waited
            )

    def _count_poll(self, event: Polled) -> None:
        self._series(self._families.polls, event.outcome).inc()
        if event.outcome != "skipped":
            self._families.poll_duration.observe(event.seconds)
            self._families.last_poll.set(self._now())

    def _count_step(self, event: StepFailed) -> None:
        self._families.failures.labels(event.loop).inc()
        if event.loop == "poll":
            self._families.polls.labels("error").inc()

    def _count_push(self, event: PushTried) -> None:
        self._series(self._families.pushes, event.type, event.outcome).inc(event.count)

    def _show_slots(self, event: SlotsChanged) -> None:
        self._series(self._families.slots, "used").set(event.used)
        self._series(self._families.slots, "free").set(event.total - event.used)

    def _count_writes(self, event: Event) -> None:
        match event:
            case ProgressWritten(reports=reports):
                self._families.progress.labels("written").inc()
                self._families.progress.labels("coalesced").inc(max(0, reports - 1))
            case WriteFenced(operation=operation, cancelled=cancelled, settles=settles):
                if not cancelled:
                    self._families.fenced.labels(operation).inc()
                if settles:
                    self._families.superseded.labels(operation).inc()
            case ConnectionsReaped():
                self._count_reaped(event)
            case ItemUndecodable(table=table):
                self._families.undecodable.labels(self._table_labels.get(table, OTHER)).inc()
            case QueueMeasured():
                self._show_queue(event)
            case UnhandledMeasured(counts=counts):
                self._show_unhandled(counts)
            case _:
                pass

    def _show_queue(self, event: QueueMeasured) -> None:
        if event.later:
            self._families.later.labels(event.status).set(event.count)
        else:
            self._families.depth.labels(event.status).set(event.count)
            self._families.oldest.labels(event.status).set(event.oldest or 0.0)

    def _show_unhandled(self, counts: Mapping[str, int]) -> None:
        """Show the actions with the most requests. Producers may send any names, so limit them."""
        self._families.unhandled.clear()
        shown: Counter[str] = Counter()
        for place, (action, count) in enumerate(Counter(counts).most_common()):
            named = place < _NAMED_ACTIONS
            shown[one_line(action, ACTION_CHARS) if named else OTHER] += count
        for action, count in shown.items():
            self._families.unhandled.labels(action).set(count)

    def _show_fleet(self, event: Event) -> None:
        match event:
            case HeartbeatTried(outcome=outcome):
                self._families.heartbeats.labels(outcome).inc()
            case FleetObserved(live=live, dead=dead, leads=leads):
                self._families.workers.labels("live").set(live)
                self._families.workers.labels("dead").set(dead)
                self._set_leads(leads=leads)
            case RequestRescued(action=action, status=status):
                self._families.rescued.labels(self._action_label(action)).inc()
                if status == RequestStatus.RETRYING:
                    self._families.retries.labels(self._action_label(action), WORKER_LOST).inc()
            case WorkerStarted():
                self._set_start_times()
            case WorkerDraining():
                self._families.draining.set(1)
                self._set_leads(leads=False)
            case WorkerFenced():
                self._families.fences.inc()
                self._set_leads(leads=False)
            case _:
                pass

    def _show_process(self, event: Event) -> None:
        match event:
            case LoopLagMeasured(lag=lag):
                self._families.lag.observe(lag)
            case LoopBlocked():
                self._families.blocked.inc()
            case HandlerStuck(thread=thread):
                self._families.stuck.labels("thread" if thread else "task").inc()
            case StuckHandlerEnded(thread=thread):
                self._families.stuck.labels("thread" if thread else "task").dec()
            case _:
                pass

    def _count_call(self, event: CallEnded | TryFailed) -> None:
        match event:
            case CallEnded(operation=operation, seconds=seconds, capacity=capacity):
                self._series(self._families.calls, operation).observe(seconds)
                for used in capacity:
                    self._series(self._families.consumed, used.table, used.index, operation).inc(
                        used.units
                    )
            case TryFailed(operation=operation, code=code, throttled=throttled):
                self._families.call_errors.labels(operation, code).inc()
                if throttled:
                    self._families.throttles.labels(operation).inc()

    def _count_cache(self, event: CacheUsed) -> None:
        families = self._families
        self._series(families.cache_reads, event.table, "hit").inc(event.hits)
        self._series(families.cache_reads, event.table, "miss").inc(event.misses)
        self._series(families.cache_evictions, event.table).inc(event.evictions)
        if event.hits:
            self._series(families.cache_age, event.table).observe(event.age)

    def _count_reaped(self, event: ConnectionsReaped) -> None:
        would_delete = event.found if event.dry_run else 0
        self._families.reaped.labels("deleted").inc(event.deleted)
        self._families.reaped.labels("kept").inc(event.kept)
        self._families.reaped.labels("undecodable").inc(event.undecodable)
        self._families.reaped.labels("dry_run").inc(would_delete)
        if self._families.last_reaped is not None:
            self._families.last_reaped.set(self._now())

    def _set_start_times(self) -> None:
        """Set the times of the last successes to the start of this worker."""
        if not self._has_started:
            self._has_started = True
            self._families.last_poll.set(self._now())
            if self._families.last_reaped is not None:
                self._families.last_reaped.set(self._now())

    def _set_leads(self, *, leads: bool) -> None:
        """Show whether this worker leads. If it does not, remove its last counts of the queue."""
        self._families.leader.set(leads)
        if not leads:
            self._families.depth.clear()
            self._families.later.clear()
            self._families.oldest.clear()
            self._families.unhandled.clear()

    def _action_label(self, action: str | None) -> str:
        return action if action is not None and action in self._actions else OTHER

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _ignore(_event: Event) -> None:
    """Do nothing: no metric counts the event."""


def _check_directory(directory: str | None) -> None:
    """Raise StartError if prometheus_client would write to a directory, and cannot."""
    if directory is None:
        return
    if not (Path(directory).is_dir() and os.access(directory, os.W_OK | os.X_OK)):
        raise StartError(
            "metrics cannot be written:",
            [
                (
                    f"{_DIRECTORY}: {directory!r} is not a writable directory;"
                    " create it, or unset the variable: the worker does not need it"
                )
            ],
        )
