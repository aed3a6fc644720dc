"""Logs events: the name of the event, and its fields."""

from __future__ import annotations

import logging
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any, Final

from streamer_store import CacheUsed, CallEnded, StoreError, TryFailed
from streamer_store.times import format_time
from streamer_worker.events import (
    ActionSettingsUnused,
    ActionUnknown,
    CallsRefused,
    CheckpointDelayed,
    ChildEnded,
    ClaimTried,
    ClockJumped,
    ClockSkewed,
    ConnectionsReaped,
    ConnectionSuspended,
    DeadWorkerRemoved,
    EndpointRefused,
    Event,
    FleetObserved,
    FuseBlown,
    HandlerRaised,
    HandlerStuck,
    HeartbeatTried,
    ItemUndecodable,
    LifespanFailed,
    LoopBlocked,
    LoopLagMeasured,
    PayloadRefused,
    Polled,
    ProcessEnding,
    ProgressDropped,
    ProgressWritten,
    PushServiceFailed,
    PushTried,
    QueueMeasured,
    RateLimitMeasured,
    RequestFinished,
    RequestRescued,
    RequestStarted,
    ScheduleSuspended,
    ScheduleTicksMissed,
    SettleDelayed,
    SignalHandlersRestored,
    SlotsChanged,
    StepFailed,
    TableMismatch,
    TableUnavailable,
    UnhandledMeasured,
    WorkerFenced,
    WriteFenced,
    event_name,
)
from streamer_worker.handlers.exceptions import Reject, RetryLater
from streamer_worker.monitoring.worker_log import WorkerLog, configure_logging
from streamer_worker.sanitize import message_of, sanitized

__all__ = ["LogListener", "WorkerLog", "configure_logging"]

# Outcomes that are not a failure of the worker or of its tables.
_EXPECTED: Final = frozenset({"completed", "released", "cancelled", "retried", "snoozed"})
# None: never logged. Events that are not listed are INFO.
_LEVELS: Final[dict[type[Event], int | None]] = {
    CacheUsed: None,
    CallEnded: None,
    LoopLagMeasured: None,
    SlotsChanged: None,
    FleetObserved: logging.DEBUG,
    Polled: logging.DEBUG,
    ProgressWritten: logging.DEBUG,
    PushTried: logging.DEBUG,
    QueueMeasured: logging.DEBUG,
    RateLimitMeasured: logging.DEBUG,
    UnhandledMeasured: logging.DEBUG,
    RequestStarted: logging.DEBUG,
    TryFailed: logging.DEBUG,
    ActionSettingsUnused: logging.WARNING,
    ActionUnknown: logging.WARNING,
    CheckpointDelayed: logging.WARNING,
    ChildEnded: logging.WARNING,
    ClaimTried: logging.WARNING,
    ClockJumped: logging.WARNING,
    ClockSkewed: logging.WARNING,
    ConnectionSuspended: logging.WARNING,
    DeadWorkerRemoved: logging.WARNING,
    EndpointRefused: logging.WARNING,
    FuseBlown: logging.WARNING,
    HandlerRaised: logging.WARNING,
    HandlerStuck: logging.WARNING,
    HeartbeatTried: logging.WARNING,
    ItemUndecodable: logging.WARNING,
    LoopBlocked: logging.WARNING,
    PayloadRefused: logging.WARNING,
    ProgressDropped: logging.WARNING,
    RequestFinished: logging.WARNING,
    RequestRescued: logging.WARNING,
    ScheduleSuspended: logging.WARNING,
    ScheduleTicksMissed: logging.WARNING,
    SettleDelayed: logging.WARNING,
    SignalHandlersRestored: logging.WARNING,
    TableMismatch: logging.WARNING,
    TableUnavailable: logging.WARNING,
    WorkerFenced: logging.WARNING,
    WriteFenced: logging.WARNING,
    CallsRefused: logging.ERROR,
    LifespanFailed: logging.ERROR,
    ProcessEnding: logging.ERROR,
    PushServiceFailed: logging.ERROR,
    StepFailed: logging.ERROR,
}
# Their levels depend on their fields.
_BY_CONTENT: Final = frozenset(
    {
        ClaimTried,
        ConnectionsReaped,
        HandlerRaised,
        HeartbeatTried,
        PushTried,
        RequestFinished,
        ScheduleTicksMissed,
        WriteFenced,
    }
)

# Their errors are those of the store, and TimeoutError.
_OF_THE_TABLE: Final = frozenset({HeartbeatTried, TableUnavailable})


class LogListener:
    """A listener that logs each event as one line of the worker's own log.

    An exception in a field is logged by its type and text, and with its traceback unless it is a
    StoreError, or a heartbeat without an answer, whose text says everything. May be called from
    any thread.
    """

    def __init__(self, log: WorkerLog) -> None:
        self._writer = log.writer("streamer_worker")

    def __call__(self, event: Event) -> None:
        kind: Any = type(event)
        level = _LEVELS.get(kind, logging.INFO)
        if kind in _BY_CONTENT:
            level = _level_by_content(event, level)
        # Most events are below the level: no line is made for them.
        if level is None or not self._writer.is_enabled(level):
            return
        values: dict[str, Any] = {}
        name, field_names = _describe(kind)
        for field_name in field_names:
            value = getattr(event, field_name)
            if value is None:
                continue
            if isinstance(value, BaseException):
                values["error_type"] = type(value).__name__
                if not (isinstance(value, StoreError) or kind in _OF_THE_TABLE):
                    values["exc_info"] = value
                value = sanitized(message_of(value))
            elif isinstance(value, datetime):
                value = format_time(value)
            values[field_name] = value
        self._writer.write(level, name, values)


@cache
def _describe(kind: type[Event]) -> tuple[str, tuple[str, ...]]:
    """Return the name of the line for events of a class, and the names of its fields."""
    return event_name(kind), tuple(field.name for field in fields(kind))


def _level_by_content(event: Event, level: int | None) -> int | None:
    """Return the level of an event whose fields decide it. `level`: if they do not."""
    if isinstance(event, RequestFinished):  # the only one of each request that is logged
        return logging.INFO if event.outcome in _EXPECTED else level
    match event:
        # A handler may raise these every second. RequestFinished has the outcome.
        case ClaimTried(error=None) | HandlerRaised(error=Reject() | RetryLater()):
            return logging.DEBUG
        # WorkerFenced says that the row is gone.
        case HeartbeatTried(outcome="ok" | "gone") | WriteFenced(cancelled=True):
            return logging.DEBUG
        case ScheduleTicksMissed(paused=True):
            return logging.INFO
        case ConnectionsReaped(found=0, undecodable=0):
            return logging.DEBUG
        case PushTried(outcome="unresolved", type="complete" | "error"):
            return logging.WARNING
    return level
