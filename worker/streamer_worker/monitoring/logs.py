"""Structured logs: an event name and fields, from our code, handlers and libraries alike."""

from __future__ import annotations

import logging
import re
from dataclasses import fields
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
)
from streamer_worker.handlers.exceptions import Reject, RetryLater
from streamer_worker.monitoring.worker_log import WorkerLog, configure_logging
from streamer_worker.own_logger import get_logger
from streamer_worker.sanitize import message_of, sanitized

__all__ = ["LogListener", "WorkerLog", "configure_logging"]

_AS_WANTED: Final = frozenset({"completed", "released", "cancelled", "retried", "snoozed"})
# None: not told at all. What is not here is INFO.
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
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


class LogListener:
    """Logs every event under its name in snake case."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger or get_logger("streamer_worker")

    def __call__(self, event: Event) -> None:
        level = _level(event)
        if level is None:
            return
        told: dict[str, Any] = {}
        for each in fields(event):
            value = getattr(event, each.name)
            if isinstance(value, BaseException):
                told["error_type"] = type(value).__name__
                if not isinstance(value, StoreError):  # those say all in a line
                    told["exc_info"] = value
                value = sanitized(message_of(value))
            if value is not None:
                told[each.name] = value
        self._logger.log(level, _name(event), **told)


def _name(event: Event) -> str:
    return _WORD.sub("_", type(event).__name__).lower()


def _level(event: Event) -> int | None:
    match event:
        # A verdict comes perhaps every second; how the attempt ended is told anyway.
        case ClaimTried(error=None) | HandlerRaised(error=Reject() | RetryLater()):
            return logging.DEBUG
        case HeartbeatTried(outcome="ok") | WriteFenced(cancelled=True):
            return logging.DEBUG
        case ConnectionsReaped(found=0, undecodable=0):
            return logging.DEBUG
        case PushTried(outcome="unresolved", type=kind) if kind != "progress":
            return logging.WARNING
        case RequestFinished(outcome=outcome) if outcome in _AS_WANTED:
            return logging.INFO
    return _LEVELS.get(type(event), logging.INFO)
