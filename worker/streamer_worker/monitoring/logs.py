"""Logs events: the name of the event, and its fields."""

from __future__ import annotations

import logging
from dataclasses import fields
from functools import cache
from typing import Any, Final

from streamer_store import CallEnded, StoreError, TryFailed
from streamer_worker.events import (
    ActionUnknown,
    CheckpointDelayed,
    ChildEnded,
    ClaimTried,
    ClockJumped,
    ConnectionsReaped,
    ConnectionSuspended,
    EndpointRefused,
    Event,
    FleetObserved,
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
    RequestFinished,
    RequestRescued,
    RequestStarted,
    SettleDelayed,
    SignalHandlersRestored,
    SlotsChanged,
    StepFailed,
    TableMismatch,
    UnhandledMeasured,
    WorkerFenced,
    WriteFenced,
    event_name,
)
from streamer_worker.handlers.exceptions import Reject, RetryLater
from streamer_worker.monitoring.worker_log import WorkerLog, configure_logging
from streamer_worker.own_logger import get_logger
from streamer_worker.sanitize import message_of, sanitized

__all__ = ["LogListener", "WorkerLog", "configure_logging"]

# Outcomes that are not a failure of the worker or of its tables.
_EXPECTED: Final = frozenset({"completed", "released", "cancelled", "retried", "snoozed"})
# None: never logged. Events that are not listed are INFO.
_LEVELS: Final[dict[type[Event], int | None]] = {
    CallEnded: None,
    LoopLagMeasured: None,
    SlotsChanged: None,
    FleetObserved: logging.DEBUG,
    Polled: logging.DEBUG,
    ProgressWritten: logging.DEBUG,
    PushTried: logging.DEBUG,
    QueueMeasured: logging.DEBUG,
    UnhandledMeasured: logging.DEBUG,
    RequestStarted: logging.DEBUG,
    TryFailed: logging.DEBUG,
    ActionUnknown: logging.WARNING,
    CheckpointDelayed: logging.WARNING,
    ChildEnded: logging.WARNING,
    ClaimTried: logging.WARNING,
    ClockJumped: logging.WARNING,
    ConnectionSuspended: logging.WARNING,
    EndpointRefused: logging.WARNING,
    HandlerRaised: logging.WARNING,
    HandlerStuck: logging.WARNING,
    HeartbeatTried: logging.WARNING,
    ItemUndecodable: logging.WARNING,
    LoopBlocked: logging.WARNING,
    PayloadRefused: logging.WARNING,
    ProgressDropped: logging.WARNING,
    RequestFinished: logging.WARNING,
    RequestRescued: logging.WARNING,
    SettleDelayed: logging.WARNING,
    SignalHandlersRestored: logging.WARNING,
    TableMismatch: logging.WARNING,
    WorkerFenced: logging.WARNING,
    WriteFenced: logging.WARNING,
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
        WriteFenced,
    }
)


class LogListener:
    """A listener that logs each event as one line.

    An exception in a field is logged by its type and text, and with its traceback unless it is a
    StoreError, whose text says everything. May be called from any thread.

    logger: None is the worker's own logger.
    """

    def __init__(self, logger: Any = None) -> None:
        # Bound once: an unbound logger of structlog makes a new one for each line.
        self._logger = (logger or get_logger("streamer_worker")).bind()

    def __call__(self, event: Event) -> None:
        level = _level(event)
        # Most events are below the level: structlog checks it only after it has made the line.
        if level is None or not self._logger.isEnabledFor(level):
            return
        values: dict[str, Any] = {}
        kind: Any = type(event)
        name, field_names = _describe(kind)
        for field_name in field_names:
            value = getattr(event, field_name)
            if isinstance(value, BaseException):
                values["error_type"] = type(value).__name__
                if not isinstance(value, StoreError):
                    values["exc_info"] = value
                value = sanitized(message_of(value))
            if value is not None:
                values[field_name] = value
        self._logger.log(level, name, **values)


@cache
def _describe(kind: type[Event]) -> tuple[str, tuple[str, ...]]:
    """Return the name of the line for events of a class, and the names of its fields."""
    return event_name(kind), tuple(field.name for field in fields(kind))


def _level(event: Event) -> int | None:
    """Return the level of an event. None: it is not logged."""
    level = _LEVELS.get(type(event), logging.INFO)
    return _level_by_content(event, level) if type(event) in _BY_CONTENT else level


def _level_by_content(event: Event, level: int | None) -> int | None:
    """Return the level of an event whose fields decide it. `level`: if they do not."""
    match event:
        # A handler may raise these every second. RequestFinished has the outcome.
        case ClaimTried(error=None) | HandlerRaised(error=Reject() | RetryLater()):
            return logging.DEBUG
        case HeartbeatTried(outcome="ok") | WriteFenced(cancelled=True):
            return logging.DEBUG
        case ConnectionsReaped(found=0, undecodable=0):
            return logging.DEBUG
        case PushTried(outcome="unresolved", type=kind) if kind != "progress":
            return logging.WARNING
        case RequestFinished(outcome=outcome) if outcome in _EXPECTED:
            return logging.INFO
    return level
