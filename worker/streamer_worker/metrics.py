"""Events -> Prometheus. Labels never hold ids, users or tenants."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer_worker.events import (
    ClaimTried,
    ConnectionsReaped,
    Event,
    ItemUndecodable,
    Polled,
    RequestFinished,
    SlotsChanged,
    StepFailed,
)

PREFIX: Final = "streamer_worker"
_DURATIONS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_OTHER: Final = "other"


class Metrics:
    """A listener with a registry of its own. Actions that nobody registered count as `other`."""

    def __init__(self, *, actions: Collection[str]) -> None:
        self.registry = CollectorRegistry()
        self._actions = frozenset(actions)
        self._finished = Counter(
            "requests_finished",
            "Requests that left this worker",
            ["action", "outcome"],
            namespace=PREFIX,
            registry=self.registry,
        )
        self._duration = Histogram(
            "request_duration_seconds",
            "Time from claim to settled",
            ["action", "outcome"],
            namespace=PREFIX,
            registry=self.registry,
            buckets=_DURATIONS,
        )
        self._slots = Gauge(
            "slots", "Slots by state", ["state"], namespace=PREFIX, registry=self.registry
        )
        self._polls = Counter(
            "polls", "Looks at StatusIndex", ["outcome"], namespace=PREFIX, registry=self.registry
        )
        self._claims = Counter(
            "claims", "Claims tried", ["outcome"], namespace=PREFIX, registry=self.registry
        )
        self._reaped = Counter(
            "reaper_connections",
            "Stale connections met by the reaper",
            ["result"],
            namespace=PREFIX,
            registry=self.registry,
        )
        self._failures = Counter(
            "loop_failures",
            "Rounds of a loop that failed",
            ["loop"],
            namespace=PREFIX,
            registry=self.registry,
        )
        self._undecodable = Counter(
            "undecodable_items",
            "Items that do not read as what they should be",
            ["table"],
            namespace=PREFIX,
            registry=self.registry,
        )

    def __call__(self, event: Event) -> None:
        match event:
            case RequestFinished(action=action, outcome=outcome, seconds=seconds):
                label = action if action in self._actions else _OTHER
                self._finished.labels(label, outcome).inc()
                self._duration.labels(label, outcome).observe(seconds)
            case SlotsChanged(used=used, total=total):
                self._slots.labels("used").set(used)
                self._slots.labels("free").set(total - used)
            case Polled(outcome=outcome):
                self._polls.labels(outcome).inc()
            case ClaimTried(outcome=outcome):
                self._claims.labels(outcome).inc()
            case ConnectionsReaped():
                self._count_reaped(event)
            case StepFailed(loop=loop):
                self._failures.labels(loop).inc()
                if loop == "poll":
                    self._polls.labels("error").inc()
            case ItemUndecodable(table=table):
                self._undecodable.labels(table).inc()
            case _:
                pass

    def _count_reaped(self, event: ConnectionsReaped) -> None:
        would_go = event.found if event.dry_run else 0
        self._reaped.labels("deleted").inc(event.deleted)
        self._reaped.labels("kept").inc(event.kept)
        self._reaped.labels("undecodable").inc(event.undecodable)
        self._reaped.labels("dry_run").inc(would_go)
