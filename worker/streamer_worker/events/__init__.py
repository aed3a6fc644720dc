"""Typed events of a worker. Logs, metrics, health and systemd listen to them.

No event carries a payload, a result or metadata. Each class says when it is emitted, and by which
module. Under its name in snake case it is a line of the log (`monitoring.logs`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from streamer_store import CacheUsed, CallEnded, TryFailed
from streamer_worker.events.connections import (
    ConnectionEvent,
    ConnectionGone,
    ConnectionsReaped,
    ConnectionSuspended,
    EndpointRefused,
    PushLogged,
    PushServiceFailed,
    PushTried,
)
from streamer_worker.events.limits import (
    ActionSettingsUnused,
    ClockSkewed,
    LimitEvent,
    RateLimitMeasured,
)
from streamer_worker.events.pauses import (
    FuseBlown,
    FuseProbed,
    PauseEnded,
    PauseEvent,
    PauseStarted,
)
from streamer_worker.events.requests import (
    ActionUnknown,
    CheckpointDelayed,
    ClaimReleased,
    ClaimTried,
    HandlerRaised,
    HandlerStuck,
    ItemUndecodable,
    PayloadRefused,
    Polled,
    ProgressDropped,
    ProgressWritten,
    QueueMeasured,
    RequestEvent,
    RequestFinished,
    RequestRescued,
    RequestStarted,
    SettleDelayed,
    SettlesResumed,
    SlotsChanged,
    StuckHandlerEnded,
    UnhandledMeasured,
    WriteFenced,
)
from streamer_worker.events.schedules import (
    ScheduleDefined,
    ScheduleEnded,
    ScheduleEvent,
    ScheduleSuspended,
    ScheduleTicked,
    ScheduleTicksMissed,
)
from streamer_worker.events.worker import (
    CallsRefused,
    ChildEnded,
    ChildStarted,
    ClockJumped,
    DeadWorkerRemoved,
    FleetObserved,
    HeartbeatTried,
    LifespanFailed,
    LogLinesSuppressed,
    LoopBlocked,
    LoopLagMeasured,
    ProcessEnding,
    SignalHandlersRestored,
    StepFailed,
    TableAvailable,
    TableMismatch,
    TableUnavailable,
    WorkerDraining,
    WorkerEvent,
    WorkerFenced,
    WorkerStarted,
    WorkerStopped,
)
from streamer_worker.own_logger import get_logger

__all__ = [
    "ActionSettingsUnused",
    "ActionUnknown",
    "CacheUsed",
    "CallEnded",
    "CallsRefused",
    "CheckpointDelayed",
    "ChildEnded",
    "ChildStarted",
    "ClaimReleased",
    "ClaimTried",
    "ClockJumped",
    "ClockSkewed",
    "ConnectionGone",
    "ConnectionSuspended",
    "ConnectionsReaped",
    "DeadWorkerRemoved",
    "EndpointRefused",
    "Event",
    "Events",
    "FleetObserved",
    "FuseBlown",
    "FuseProbed",
    "HandlerRaised",
    "HandlerStuck",
    "HeartbeatTried",
    "ItemUndecodable",
    "LifespanFailed",
    "Listener",
    "LogLinesSuppressed",
    "LoopBlocked",
    "LoopLagMeasured",
    "PauseEnded",
    "PauseStarted",
    "PayloadRefused",
    "Polled",
    "ProcessEnding",
    "ProgressDropped",
    "ProgressWritten",
    "PushLogged",
    "PushServiceFailed",
    "PushTried",
    "QueueMeasured",
    "RateLimitMeasured",
    "RequestFinished",
    "RequestRescued",
    "RequestStarted",
    "ScheduleDefined",
    "ScheduleEnded",
    "ScheduleSuspended",
    "ScheduleTicked",
    "ScheduleTicksMissed",
    "SettleDelayed",
    "SettlesResumed",
    "SignalHandlersRestored",
    "SlotsChanged",
    "StepFailed",
    "StuckHandlerEnded",
    "TableAvailable",
    "TableMismatch",
    "TableUnavailable",
    "TryFailed",
    "UnhandledMeasured",
    "WorkerDraining",
    "WorkerFenced",
    "WorkerStarted",
    "WorkerStopped",
    "WriteFenced",
    "event_name",
]

# CallEnded, TryFailed and CacheUsed are emitted by the stores, on the thread of the call.
Event = (
    WorkerEvent
    | RequestEvent
    | ConnectionEvent
    | LimitEvent
    | PauseEvent
    | ScheduleEvent
    | CallEnded
    | TryFailed
    | CacheUsed
)
Listener = Callable[[Event], None]

_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


def event_name(kind: type[Event]) -> str:
    """Return the name under which events of a class are logged: `worker_started`."""
    return _WORD.sub("_", kind.__name__).lower()


class Events:
    """Passes every event to every listener, in order, on the thread that emits it.

    `emit` may be called from any thread and never raises. An error of a listener is logged.
    """

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def emit(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except BaseException:  # noqa: BLE001  a listener must not break what it observes
                _log_failure(event)


def _log_failure(event: Event) -> None:
    with suppress(BaseException):
        get_logger("streamer_worker").exception("listener_failed", event_type=type(event).__name__)
