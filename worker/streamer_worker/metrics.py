"""Events -> Prometheus. Labels never hold ids, users or tenants."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer_worker.events import (
    ClaimTried,
    ConnectionsReaped,
    Event,
    FleetLooked,
    HandlerStuck,
    HeartbeatTried,
    ItemUndecodable,
    LoopBlocked,
    Polled,
    PushTried,
    RequestFinished,
    RequestRescued,
    SlotsChanged,
    StepFailed,
    StuckHandlerEnded,
    WorkerFenced,
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
        self._heartbeats = Counter(
            "heartbeats", "Heartbeats tried", ["outcome"], namespace=PREFIX, registry=self.registry
        )
        self._rescued = Counter(
            "rescued",
            "Requests taken from workers that are gone",
            ["action"],
            namespace=PREFIX,
            registry=self.registry,
        )
        self._workers = Gauge(
            "workers", "Workers by state", ["state"], namespace=PREFIX, registry=self.registry
        )
        self._leader = Gauge(
            "leader", "Whether this worker sweeps", namespace=PREFIX, registry=self.registry
        )
        self._fences = Counter(
            "fences", "Times it took itself for dead", namespace=PREFIX, registry=self.registry
        )
        self._blocked = Counter(
            "loop_blocked",
            "Times the event loop stood for a second",
            namespace=PREFIX,
            registry=self.registry,
        )
        self._stuck = Gauge(
            "stuck_handlers",
            "Handlers that run on though they were told to end",
            ["kind"],
            namespace=PREFIX,
            registry=self.registry,
        )
        self._pushes = Counter(
            "pushes",
            "Messages for connections",
            ["type", "outcome"],
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
                label = self._label(action)
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
            case PushTried(type=kind, outcome=outcome, count=count):
                self._pushes.labels(kind, outcome).inc(count)
            case ItemUndecodable(table=table):
                self._undecodable.labels(table).inc()
            case _:
                self._tell_fleet(event)

    def _tell_fleet(self, event: Event) -> None:
        match event:
            case HeartbeatTried(outcome=outcome):
                self._heartbeats.labels(outcome).inc()
            case FleetLooked(live=live, dead=dead, leads=leads):
                self._workers.labels("live").set(live)
                self._workers.labels("dead").set(dead)
                self._leader.set(leads)
            case RequestRescued(action=action):
                self._rescued.labels(self._label(action)).inc()
            case WorkerFenced():
                self._fences.inc()
            case LoopBlocked():
                self._blocked.inc()
            case HandlerStuck(thread=thread):
                self._stuck.labels("thread" if thread else "task").inc()
            case StuckHandlerEnded(thread=thread):
                self._stuck.labels("thread" if thread else "task").dec()
            case _:
                pass

    def _label(self, action: str | None) -> str:
        return action if action in self._actions and action is not None else _OTHER

    def _count_reaped(self, event: ConnectionsReaped) -> None:
        would_go = event.found if event.dry_run else 0
        self._reaped.labels("deleted").inc(event.deleted)
        self._reaped.labels("kept").inc(event.kept)
        self._reaped.labels("undecodable").inc(event.undecodable)
        self._reaped.labels("dry_run").inc(would_go)
