"""An example of each event, and the names of the metrics that they set."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from streamer_store import CacheUsed, CallEnded, Capacity, StoreUnavailable, TryFailed
from streamer_worker import Context, SyncContext, handler
from streamer_worker.events import (
    ActionSettingsUnused,
    ActionUnknown,
    CallsRefused,
    CheckpointDelayed,
    ChildEnded,
    ChildStarted,
    ClaimReleased,
    ClaimTried,
    ClockJumped,
    ClockSkewed,
    ConnectionGone,
    ConnectionsReaped,
    ConnectionSuspended,
    DeadWorkerRemoved,
    EndpointRefused,
    Event,
    FleetObserved,
    FuseBlown,
    FuseProbed,
    HandlerRaised,
    HandlerStuck,
    HeartbeatTried,
    ItemUndecodable,
    LifespanFailed,
    LogLinesSuppressed,
    LoopBlocked,
    LoopLagMeasured,
    PauseEnded,
    PauseStarted,
    PayloadRefused,
    Polled,
    ProcessEnding,
    ProgressDropped,
    ProgressWritten,
    PushLogged,
    PushServiceFailed,
    PushTried,
    QueueMeasured,
    RateLimitMeasured,
    RequestFinished,
    RequestRescued,
    RequestStarted,
    ScheduleDefined,
    ScheduleEnded,
    ScheduleSuspended,
    ScheduleTicked,
    ScheduleTicksMissed,
    SettleDelayed,
    SettlesResumed,
    SignalHandlersRestored,
    SlotsChanged,
    StepFailed,
    StuckHandlerEnded,
    TableAvailable,
    TableMismatch,
    TableUnavailable,
    UnhandledMeasured,
    WorkerDraining,
    WorkerFenced,
    WorkerStarted,
    WorkerStopped,
    WriteFenced,
)
from streamer_worker.monitoring.metric_families import PREFIX
from streamer_worker.monitoring.metrics import Metrics
from support import ManualClock

AWAY = StoreUnavailable("away")
NOW = ManualClock().now().timestamp()


@handler("report")
async def _report(payload: dict[str, Any], ctx: Context) -> None: ...


@handler("bulk")
def _bulk(payload: dict[str, Any], ctx: SyncContext) -> None: ...


REPORT = replace(_report, distribution="streamer-worker")
BULK = _bulk


def two_handlers() -> Metrics:
    """Return the metrics of a worker that has `report` and `bulk`."""
    return Metrics({"report": REPORT, "bulk": BULK}, clock=ManualClock())


RETRIED = RequestFinished(
    request_id="r-1",
    action="report",
    attempt=1,
    outcome="retried",
    code=None,
    seconds=1,
    will_retry=True,
)


def finished(
    action: str = "report", outcome: str = "completed", seconds: float = 0.3
) -> RequestFinished:
    return RequestFinished(
        request_id="r-1", action=action, attempt=1, outcome=outcome, code=None, seconds=seconds
    )


def started(**fields: Any) -> WorkerStarted:
    """Return the event with these fields, and with examples of the others."""
    examples: dict[str, Any] = {
        "worker_id": "w-1",
        "table_prefix": "streamer_",
        "concurrency": 2,
        "metrics_url": None,
        "release": "1.0",
        "distributions": (),
        "actions": ("report",),
    }
    return WorkerStarted(**examples | fields)


def rescued(action: str | None = "report") -> RequestRescued:
    return RequestRescued(request_id="r-1", action=action, worker_id="w-2", status="RETRYING")


def stuck(*, thread: bool) -> Event:
    return HandlerStuck(request_id="r-1", action="report", reason="timeout", thread=thread)


def reaped(*, dry_run: bool = False) -> Event:
    return ConnectionsReaped(
        found=7, deleted=0 if dry_run else 4, kept=2, undecodable=1, dry_run=dry_run, seconds=1
    )


EVERY_EVENT: list[Event] = [
    started(),
    WorkerDraining(worker_id="w-1", in_flight=1),
    WorkerStopped(worker_id="w-1"),
    WorkerFenced(worker_id="w-1", reason="x", in_flight=1),
    DeadWorkerRemoved(worker_id="w-2", host="h", removed_by="w-1", silence=16.5, in_flight=3),
    HeartbeatTried(outcome="ok", seconds=0.1),
    FleetObserved(live=2, dead=1, leads=True),
    LoopBlocked(seconds=1.2, action="report", request_id="r-1", stack="x"),
    ProcessEnding(reason="x", stacks="x"),
    SignalHandlersRestored(signals=("SIGTERM",)),
    rescued(),
    TableMismatch(table="requests", text="x"),
    Polled(outcome="claimed", seconds=0.1, candidates=3, claimed=2),
    ClaimTried(request_id="r-1", action="made-up", outcome="won", waited=1.0),
    RequestStarted(request_id="r-1", action="report", attempt=1),
    HandlerRaised(request_id="r-1", action="report", error=ValueError("x")),
    stuck(thread=True),
    StuckHandlerEnded(request_id="r-1", action="report", thread=True),
    ActionUnknown(action="made-up"),
    ClockJumped(seconds=90.0),
    ClockSkewed(seconds=-3.5),
    ActionSettingsUnused(action="reprot", nearest="report"),
    RateLimitMeasured(
        action="report", per_tenant=False, granted=5, refused=2, expired=1, saturated=0.5
    ),
    finished(),
    SlotsChanged(used=3, total=10),
    SettleDelayed(request_id="r-1", error=AWAY),
    SettlesResumed(count=2, seconds=9.0),
    LogLinesSuppressed(kind="x", count=2),
    TableUnavailable(seconds=0.0, failures=1, outcomes=0, error=AWAY),
    TableAvailable(seconds=61.5, failures=40, outcomes=2, longest_wait=60.1),
    CallsRefused(failures=1, calls=("Query requests",), error=AWAY),
    ProgressDropped(request_id="r-1", error=AWAY),
    reaped(),
    ItemUndecodable(table="requests", key="r-1", reason="x"),
    StepFailed(loop="poll", error=AWAY),
    LoopLagMeasured(lag=0.01),
    PayloadRefused(request_id="r-1", action="report", fields=("x",)),
    LifespanFailed(actions="report", error=AWAY),
    ChildStarted(pid=1),
    ChildEnded(pid=1, reason="x"),
    WriteFenced(request_id="r-1", operation="progress", cancelled=False, settles=False),
    ProgressWritten(request_id="r-1", reports=2),
    CheckpointDelayed(request_id="r-1", error=AWAY),
    PushTried(type="progress", outcome="sent"),
    EndpointRefused(connection_id="r-1", reason="x"),
    PushLogged(connection_id="r-1", url="https://a.example", data="{}"),
    ConnectionSuspended(connection_id="r-1", code="x"),
    ConnectionGone(connection_id="r-1", subscriptions=0),
    PushServiceFailed(error=AWAY),
    ClaimReleased(request_id="r-1"),
    QueueMeasured(status="PENDING", count=3, more=False, oldest=1.0),
    QueueMeasured(status="RETRYING", count=5, more=False, oldest=1.0, later=True),
    UnhandledMeasured(counts={"invoice": 3}),
    ScheduleDefined(schedule="nightly", action="report", expression="0 3 * * *", timezone="UTC"),
    ScheduleTicked(schedule="nightly", action="report", request_id="r-1", late=0.1),
    ScheduleTicksMissed(schedule="nightly", count=2, paused=False),
    ScheduleSuspended(schedule="nightly", reason="x"),
    ScheduleEnded(schedule="nightly", action="report"),
    PauseStarted(kind="fuse", name="report", by="w-1", until=None, reason="x", in_force=1),
    PauseEnded(kind="tenant", name="acme", in_force=0),
    FuseBlown(action="report", failures=3, within=600.0),
    FuseProbed(action="report", request_id="r-1"),
    replace(RETRIED, code="TIMEOUT"),
    CacheUsed(table="streamer_connections", hits=2, misses=1, evictions=1, age=0.4),
    CallEnded(operation="Query", seconds=0.1, capacity=(Capacity("t", "i", 1.0),)),
    TryFailed(operation="Query", code="x", throttled=True),
]


@cache
def exposed_names() -> frozenset[str]:
    """Return the names of all samples of the worker's own metrics."""
    metrics = two_handlers()
    for event in EVERY_EVENT:
        metrics(event)
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return frozenset(sample.name for sample in samples if sample.name.startswith(PREFIX))
