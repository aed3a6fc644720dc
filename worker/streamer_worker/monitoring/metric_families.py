"""The metrics of /metrics: names, types, labels, buckets and help texts."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from itertools import product
from typing import Final, TypeVar

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
ACTION_CHARS: Final = 100
"""The longest label of an action that no handler has."""
TABLE_NAMES: Final = tuple(table.name for table in TABLES)
_DURATIONS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_CALLS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_AGES: Final = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 1, 2, 5)
_LAGS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
_ATTEMPTS: Final = (1, 2, 3, 4, 5, 10, 20)
_OUTCOMES: Final = (
    *("completed", "failed", "retried", "snoozed", "cancelled", "timeout", "claim_lost"),
    *("released", "rescued", "unsettled"),
)
_SETTLES: Final = ("complete", "fail", "retry", "release")

_Family = TypeVar("_Family", Counter, Gauge, Histogram)


def labelled(family: _Family, *values: str) -> _Family:
    """Return the series of a family with these label values, in their order."""
    return family.labels(*values)


class Families:
    """Creates every metric in `registry`.

    Series whose label values are known exist from the start, at 0: otherwise rates and alerts
    miss their first increment. `reaps`: whether this worker may reap connections.
    `schedules`: the names of its schedules.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        handlers: Mapping[str, Handler],
        *,
        reaps: bool,
        schedules: tuple[str, ...] = (),
    ) -> None:
        # No `*_created` series: they would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry
        actions = (*sorted(handlers), OTHER)
        self._add_requests(actions)
        self._add_queue()
        self._add_fleet(actions)
        self._add_schedules(schedules)
        self._add_writes(reaps=reaps)
        self._add_tables()
        self._set_info(handlers)
        ProcessCollector(registry=registry)

    def _add_requests(self, actions: tuple[str, ...]) -> None:
        self.finished = self._counter(
            "requests_finished",
            "Attempts that ended, by outcome",
            action=actions,
            outcome=_OUTCOMES,
        )
        self.duration = self._histogram(
            "request_duration_seconds",
            "Seconds from the start of an attempt until its outcome was written",
            _DURATIONS,
            "action",
            "outcome",
        )
        self.wait = self._histogram(
            "request_wait_seconds",
            "Seconds from when a request was created, or due again, until it was claimed",
            _DURATIONS,
            "action",
        )
        self.attempts = self._histogram(
            "request_attempts", "Attempts that each finished request has used", _ATTEMPTS, "action"
        )
        self.retries = self._counter(
            "retries",
            "Further attempts scheduled, by error code; SNOOZED: at the request of the handler",
            action=(),
            reason=(),
        )

    def _add_queue(self) -> None:
        self.claims = self._counter(
            "claims",
            "Claims tried, by outcome",
            outcome=("won", "lost", "postponed", "error"),
        )
        self.permits = self._counter(
            "rate_limit_permits",
            "Permits of rate limits that this worker got (granted) and did not use in time"
            " (expired), and times that there was none (refused)",
            action=(),
            scope=(),
            result=(),
        )
        self.saturated = self._counter(
            "rate_limit_saturated_seconds",
            "Seconds in which a request of this worker waited for a permit of a rate limit",
            action=(),
            scope=(),
        )
        self.slots = self._gauge("slots", "Slots for requests, used and free", "state")
        self.polls = self._counter(
            "polls",
            "Polls of the queue, by outcome",
            outcome=("claimed", "empty", "error", "skipped"),
        )
        self.poll_duration = self._histogram(
            "poll_duration_seconds", "Seconds of a poll with its claims", _CALLS
        )
        self.last_poll = self._gauge(
            "last_poll_success_timestamp_seconds",
            "Unix time of the last successful poll, or of the worker's start",
        )
        self.depth = self._gauge(
            "queue_depth",
            "Requests of each status, counted by the leader up to depth.limit",
            "status",
        )
        self.later = self._gauge(
            "queue_later",
            "Requests of each status that wait for a later time, counted by the leader every ten"
            " minutes up to depth.limit, if the table has DueIndex",
            "status",
        )
        self.unhandled = self._gauge(
            "unhandled_requests",
            "Waiting requests whose action no live worker has handled for a minute, counted by the"
            " leader. Ten actions at most, the others as `other`",
            "action",
        )
        self.paused = self._gauge(
            "paused",
            "1 for everything (`all`) and for each action or schedule that is paused, the number of"
            " paused tenants, as this worker knows them",
            "kind",
            "name",
        )
        self.oldest = self._gauge(
            "queue_oldest_age_seconds",
            "Seconds since the oldest request of each status was created, measured by the leader",
            "status",
        )

    def _add_fleet(self, actions: tuple[str, ...]) -> None:
        self.heartbeats = self._counter(
            "heartbeats", "Heartbeats tried, by outcome", outcome=("ok", "failed", "gone")
        )
        self.workers = self._gauge(
            "workers", "Workers that this worker considers live or dead", "state"
        )
        self.leader = self._gauge(
            "leader", "1 if this worker is the leader, which runs the sweeps of the fleet"
        )
        self.draining = self._gauge(
            "draining", "1 if this worker drains: it claims no more requests"
        )
        self.rescued = self._counter("rescued", "Requests taken from dead workers", action=actions)
        self.fences = self._counter(
            "fences", "Times this worker fenced itself because its lease may have expired"
        )
        self.lag = self._histogram(
            "event_loop_lag_seconds", "Seconds by which a timer of the event loop fired late", _LAGS
        )
        self.blocked = self._counter(
            "loop_blocked", "Times the event loop was blocked for a second or longer"
        )
        self.failures = self._counter("loop_failures", "Steps of a loop that failed", loop=())
        self.stuck = self._gauge(
            "stuck_handlers", "Handlers still running after cancellation", "kind"
        )

    def _add_schedules(self, schedules: tuple[str, ...]) -> None:
        self.ticks = self._counter(
            "schedule_ticks", "Requests that schedules made", schedule=schedules
        )
        self.missed_ticks = self._counter(
            "schedule_missed_ticks",
            "Ticks that were not made, by reason; paused: the schedule was paused",
            schedule=schedules,
            reason=("late", "paused"),
        )
        self.tick_lateness = self._histogram(
            "schedule_tick_lateness_seconds",
            "Seconds from when a tick was due until its request was made",
            _DURATIONS,
        )
        self.last_tick = self._gauge(
            "schedule_last_tick_timestamp_seconds",
            "Unix time at which this worker last made a request of a schedule",
            "schedule",
        )
        self.last_miss = self._gauge(
            "schedule_last_miss_timestamp_seconds",
            "Unix time at which this worker last found ticks that nobody had made in time",
            "schedule",
        )

    def _add_writes(self, *, reaps: bool) -> None:
        self.fenced = self._counter(
            "fenced_writes",
            "Writes refused because another worker has the request",
            operation=(*_SETTLES, "progress", "checkpoint"),
        )
        self.superseded = self._counter(
            "superseded_writes",
            "Outcomes not written because the request was cancelled or another worker has it",
            operation=_SETTLES,
        )
        self.progress = self._counter(
            "progress_writes",
            "Progress reports, written themselves or coalesced into the write of a later report",
            result=("written", "coalesced"),
        )
        self.pushes = self._counter(
            "pushes", "Messages for connections, by outcome", type=(), outcome=()
        )
        self.reaped = self._counter(
            "reaper_connections",
            "Stale connections that the reaper found, by result",
            result=("deleted", "kept", "undecodable", "dry_run"),
        )
        self.last_reaped: Gauge | None = None
        if reaps:
            self.last_reaped = self._gauge(
                "reaper_last_success_timestamp_seconds",
                "Unix time of this worker's last sweep of stale connections, or of its start",
            )
        self.undecodable = self._counter(
            "undecodable_items",
            "Reads of invalid items",
            table=TABLE_NAMES,
        )

    def _add_tables(self) -> None:
        self.calls = self._histogram(
            "dynamodb_request_duration_seconds",
            "Seconds of a call with all its tries",
            _CALLS,
            "operation",
        )
        self.call_errors = self._counter(
            "dynamodb_errors",
            "Tries that failed. A condition that was not met is not a failure",
            operation=(),
            code=(),
        )
        self.throttles = self._counter(
            "dynamodb_throttles", "Tries that DynamoDB throttled", operation=()
        )
        self.consumed = self._counter(
            "dynamodb_consumed_capacity_units",
            "Capacity units charged, as DynamoDB reports them. It reports none for failed calls",
            table=(),
            index=(),
            operation=(),
        )
        self.cache_reads = self._counter(
            "cache_reads",
            "Connections that were wanted for messages, by where they were: in the cache (hit) or"
            " in the table (miss)",
            table=(),
            result=(),
        )
        self.cache_evictions = self._counter(
            "cache_evictions", "Entries of the cache that gave way to others", table=()
        )
        self.cache_age = self._histogram(
            "cache_age_seconds",
            "Seconds since the oldest entry that answered a call was read",
            _AGES,
            "table",
        )

    def _set_info(self, handlers: Mapping[str, Handler]) -> None:
        build = self._gauge(
            "build_info", "1, with the versions of the worker and of Python", "version", "python"
        )
        build.labels(package_version("streamer-worker"), platform.python_version()).set(1)
        info = self._gauge(
            "handler_info",
            "1 for each installed handler",
            "action",
            "kind",
            "distribution",
            "version",
        )
        for action, handler in handlers.items():
            # The registry sets "name version". Other handlers may have a name only.
            package, _, release = (handler.distribution or "").partition(" ")
            info.labels(action, handler.kind, package, release or package_version(package)).set(1)

    def _counter(self, name: str, text: str, **labels: tuple[str, ...]) -> Counter:
        counter = Counter(name, text, list(labels), namespace=PREFIX, registry=self._registry)
        for values in product(*labels.values()) if labels else ():
            counter.labels(*values)
        return counter

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=PREFIX, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            name, text, labels, namespace=PREFIX, registry=self._registry, buckets=buckets
        )
