"""What is on the page: every metric, its labels, and what it tells."""

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

from streamer_store.release import package_version
from streamer_store.schema import TABLES
from streamer_worker.handlers.definition import Handler

PREFIX: Final = "streamer_worker"
OTHER: Final = "other"
TABLE_NAMES: Final = tuple(each.name for each in TABLES)
_DURATIONS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_CALLS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LAGS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
_ATTEMPTS: Final = (1, 2, 3, 4, 5, 10, 20)
_OUTCOMES: Final = (
    *("completed", "failed", "retried", "snoozed", "cancelled", "timeout", "claim_lost"),
    *("released", "rescued", "unsettled"),
)
_SETTLES: Final = ("complete", "fail", "retry", "release")


class Families:
    """The metrics of a registry. Counters whose labels are known from the start are there from
    the start: rates and alerts miss the first count otherwise.
    """

    def __init__(
        self, registry: CollectorRegistry, handlers: Mapping[str, Handler], *, reaps: bool
    ) -> None:
        # Series that tell since when others count.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry
        actions = (*sorted(handlers), OTHER)
        self._add_requests(actions)
        self._add_queue()
        self._add_fleet(actions)
        self._add_writes(reaps=reaps)
        self._add_tables()
        self._tell_build(handlers)
        ProcessCollector(registry=registry)

    def _add_requests(self, actions: tuple[str, ...]) -> None:
        self.finished = self._counter(
            "requests_finished",
            "Attempts that ended, by what became of the request",
            action=actions,
            outcome=_OUTCOMES,
        )
        self.duration = self._histogram(
            "request_duration_seconds",
            "Time from the start of an attempt until its outcome was written",
            _DURATIONS,
            "action",
            "outcome",
        )
        self.wait = self._histogram(
            "request_wait_seconds",
            "Time from when a request could be claimed (created, or due again) until it was",
            _DURATIONS,
            "action",
        )
        self.attempts = self._histogram(
            "request_attempts", "Attempts that ended requests have taken", _ATTEMPTS, "action"
        )
        self.retries = self._counter(
            "retries",
            "Further attempts ordered: by an error's code, or SNOOZED at the handler's own wish",
            action=(),
            reason=(),
        )

    def _add_queue(self) -> None:
        self.claims = self._counter(
            "claims",
            "Claims tried; lost: another was first; postponed: no place for a suspect was free",
            outcome=("won", "lost", "postponed", "error"),
        )
        self.slots = self._gauge("slots", "Slots for requests", "state")
        self.polls = self._counter(
            "polls",
            "Looks at what waits; skipped: while its heartbeats fail, it must not claim",
            outcome=("claimed", "empty", "error", "skipped"),
        )
        self.poll_duration = self._histogram(
            "poll_duration_seconds", "Time of a look, with its claims", _CALLS
        )
        self.last_poll = self._gauge(
            "last_poll_success_timestamp_seconds",
            "When a look last succeeded, or it started",
        )
        self.depth = self._gauge(
            "queue_depth",
            "Requests of a status, counted up to depth.limit; by the leader only",
            "status",
        )
        self.unhandled = self._gauge(
            "unhandled_requests",
            "Waiting requests whose action no live worker has listed for a minute; by the leader"
            " only, for ten actions at most, and the rest as `other`",
            "action",
        )
        self.oldest = self._gauge(
            "queue_oldest_age_seconds",
            "Time since the oldest request of a status was created; by the leader only",
            "status",
        )

    def _add_fleet(self, actions: tuple[str, ...]) -> None:
        self.heartbeats = self._counter(
            "heartbeats", "Heartbeats tried", outcome=("ok", "failed", "gone")
        )
        self.workers = self._gauge("workers", "Workers as this one sees them", "state")
        self.leader = self._gauge("leader", "1 where this worker does the fleet's sweeps")
        self.draining = self._gauge("draining", "1 once it takes no more requests")
        self.rescued = self._counter(
            "rescued", "Requests taken from workers that are gone", action=actions
        )
        self.fences = self._counter("fences", "Times it had to take itself for dead")
        self.lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop comes to a timer", _LAGS
        )
        self.blocked = self._counter("loop_blocked", "Times the event loop stood for a second")
        self.failures = self._counter("loop_failures", "Rounds of a loop that failed", loop=())
        self.stuck = self._gauge(
            "stuck_handlers", "Handlers that run on though they were told to end", "kind"
        )

    def _add_writes(self, *, reaps: bool) -> None:
        self.fenced = self._counter(
            "fenced_writes",
            "Writes refused because another has the request",
            operation=(*_SETTLES, "progress", "checkpoint"),
        )
        self.superseded = self._counter(
            "superseded_writes",
            "Outcomes not written because the request was cancelled, or another has it",
            operation=_SETTLES,
        )
        self.progress = self._counter(
            "progress_writes",
            "Reports of progress: written, or carried by a later one's write",
            result=("written", "coalesced"),
        )
        self.pushes = self._counter(
            "pushes", "Messages for connections, by what became of them", type=(), outcome=()
        )
        self.reaped = self._counter(
            "reaper_connections",
            "Connections that the reaper met",
            result=("deleted", "kept", "undecodable", "dry_run"),
        )
        self.last_reaped: Gauge | None = None
        if reaps:
            self.last_reaped = self._gauge(
                "reaper_last_success_timestamp_seconds",
                "When this worker last swept stale connections, or started",
            )
        self.undecodable = self._counter(
            "undecodable_items",
            "Items that do not read as what they should be",
            table=TABLE_NAMES,
        )

    def _add_tables(self) -> None:
        self.calls = self._histogram(
            "dynamodb_request_duration_seconds",
            "Time of a call, with its tries",
            _CALLS,
            "operation",
        )
        self.call_errors = self._counter(
            "dynamodb_errors",
            "Tries that failed; conditions that were not met are none",
            operation=(),
            code=(),
        )
        self.throttles = self._counter(
            "dynamodb_throttles", "Tries that DynamoDB throttled", operation=()
        )
        self.consumed = self._counter(
            "dynamodb_consumed_capacity_units",
            "Units charged, as DynamoDB tells; it does not tell of calls that failed",
            table=(),
            index=(),
            operation=(),
        )

    def _tell_build(self, handlers: Mapping[str, Handler]) -> None:
        build = self._gauge("build_info", "1, and what runs", "version", "python")
        build.labels(package_version("streamer-worker"), platform.python_version()).set(1)
        info = self._gauge(
            "handler_info", "1 for each handler", "action", "kind", "distribution", "version"
        )
        for action, handler in handlers.items():
            # The registry gives "name version". A handler that was made by hand may have a name.
            package, _, release = (handler.distribution or "").partition(" ")
            info.labels(action, handler.kind, package, release or package_version(package)).set(1)

    def _counter(self, name: str, text: str, **labels: tuple[str, ...]) -> Counter:
        made = Counter(name, text, list(labels), namespace=PREFIX, registry=self._registry)
        for values in product(*labels.values()) if labels else ():
            made.labels(*values)
        return made

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=PREFIX, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            name, text, labels, namespace=PREFIX, registry=self._registry, buckets=buckets
        )
