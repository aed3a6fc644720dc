"""What happens in a worker, as typed events. Metrics and logs listen; nobody else is told.

No event carries a payload, a result or metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from streamer_store import CallEnded, TryFailed
from streamer_worker.own_logger import get_logger


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    worker_id: str
    actions: tuple[str, ...]
    concurrency: int
    metrics_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDraining:
    worker_id: str
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped:
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFenced:
    """The worker fences itself, since its lease may have expired; it starts anew under another
    id. `paused`: its process used hardly any CPU meanwhile, so no request is suspected.
    """

    worker_id: str
    reason: str
    in_flight: int
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatTried:
    """`outcome`: ok, failed (`error` says why), or gone: the row was removed."""

    outcome: str
    seconds: float
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetObserved:
    """What the worker knows of the fleet, after a look."""

    live: int
    dead: int
    leads: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLagMeasured:
    """The event loop came back to a timer, this much late."""

    lag: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBlocked:
    """The event loop has not turned for a second; the stack names what holds it."""

    seconds: float
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnding:
    """The process ends at once, without its last writes; others rescue what it had."""

    reason: str
    stacks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalHandlersRestored:
    """Code of a plugin had replaced the worker's handlers of these signals."""

    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRescued:
    """A request whose worker is gone was taken from it; `status` is the new one."""

    request_id: str
    action: str | None
    worker_id: str | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadWorkerRemoved:
    """The row of a dead worker was removed: nothing bears its id any more."""

    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMismatch:
    """A table is not as we would make it, and works."""

    table: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """`outcome`: claimed, empty, or skipped: our heartbeats fail."""

    outcome: str
    seconds: float
    candidates: int
    claimed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTried:
    """`outcome`: won, lost, or error; `error` is then what the store raised. `waited`: how long
    a request that was won had been waiting, from its time on.
    """

    request_id: str
    action: str | None
    outcome: str
    waited: float | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReleased:
    """A claim that was won without our knowing; nobody ran it, and no attempt was used."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted:
    request_id: str
    action: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerRaised:
    """The handler's exception, for its traceback; what becomes of the request comes after it."""

    request_id: str
    action: str
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRefused:
    """The payload does not fit its handler, which was not called. `fields` are paths."""

    request_id: str
    action: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LifespanFailed:
    """What the handlers of these actions share has broken, or could not be left."""

    actions: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStarted:
    """A process for handlers; it is kept for the next."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnded:
    """A process has died under its handler."""

    pid: int
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerStuck:
    """The handler did not end when it was told to. `thread`: it is a synchronous one, and
    keeps its thread and its slot; another's slot is given up for counting.
    """

    request_id: str
    action: str
    reason: str
    thread: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckHandlerEnded:
    request_id: str
    action: str
    thread: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionUnknown:
    """A waiting request's action is not ours: left to others."""

    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnhandledMeasured:
    """The leader counted what waits, by action, that no live worker handles; often nothing."""

    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFinished:
    """`outcome`: completed, failed, retried, snoozed, timeout (retried or not), released,
    cancelled, claim_lost, or unsettled. `again`: another attempt follows.
    """

    request_id: str
    action: str
    attempt: int
    outcome: str
    code: str | None
    seconds: float
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsChanged:
    used: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFenced:
    """The fence refused a write. `cancelled`: the request was cancelled; else another has it.
    `settles`: the write was the attempt's outcome, which is lost.
    """

    request_id: str
    operation: str
    cancelled: bool
    settles: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleDelayed:
    """The table did not take an outcome; it is tried again."""

    request_id: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlesResumed:
    """No outcome waits for the table any more; `count` did, the first for `seconds`."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLinesSuppressed:
    """So many events of this kind, since the last one that was logged, were not logged."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressWritten:
    """Progress is in the table; it was told so many times since the write before."""

    request_id: str
    told: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressDropped:
    """A progress write did not succeed; the handler goes on. A later write has it all, unless
    DynamoDB cannot hold it.
    """

    request_id: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDelayed:
    """The table did not take a checkpoint; the handler waits, and it is tried again."""

    request_id: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTried:
    """A message for a connection; `type` is progress, complete or error. `outcome`: sent; gone;
    failed; refused: its endpoint is none that we call; dropped: newer ones, or too many, came;
    unresolved: the table did not say whom to tell. `code` says how it failed.
    """

    type: str
    outcome: str
    code: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRefused:
    connection_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSuspended:
    """Posting to a connection has failed three times in a row."""

    connection_id: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionGone:
    """A closed connection was removed, and this many subscriptions of it."""

    connection_id: str
    subscriptions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushServiceFailed:
    """The part that pushes does not work; it starts anew."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped:
    """The wall clock moved otherwise than the steady one, by so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsReaped:
    found: int
    deleted: int
    kept: int
    undecodable: int
    dry_run: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMeasured:
    """The leader has counted a status, up to a limit: `more` may have it. `oldest`: the age of
    the oldest, in seconds.
    """

    status: str
    count: int
    more: bool
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemUndecodable:
    table: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """One round of a loop failed; the loop goes on."""

    loop: str
    error: Exception


Event = (
    WorkerStarted
    | WorkerDraining
    | WorkerStopped
    | WorkerFenced
    | HeartbeatTried
    | FleetObserved
    | LoopLagMeasured
    | LoopBlocked
    | ProcessEnding
    | SignalHandlersRestored
    | RequestRescued
    | DeadWorkerRemoved
    | TableMismatch
    | Polled
    | ClaimReleased
    | ClaimTried
    | RequestStarted
    | HandlerRaised
    | PayloadRefused
    | LifespanFailed
    | ChildStarted
    | ChildEnded
    | HandlerStuck
    | StuckHandlerEnded
    | ActionUnknown
    | RequestFinished
    | SlotsChanged
    | WriteFenced
    | SettleDelayed
    | SettlesResumed
    | LogLinesSuppressed
    | ProgressWritten
    | ProgressDropped
    | CheckpointDelayed
    | PushTried
    | EndpointRefused
    | ConnectionSuspended
    | ConnectionGone
    | PushServiceFailed
    | ClockJumped
    | ConnectionsReaped
    | QueueMeasured
    | UnhandledMeasured
    | ItemUndecodable
    | StepFailed
    | CallEnded
    | TryFailed
)
Listener = Callable[[Event], None]


class Events:
    """Hands every event to every listener, in order. `emit` never raises: an error of a listener
    is logged, if that is possible.
    """

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def emit(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except BaseException:  # noqa: BLE001  telling must never break doing
                _log_failure(event)


def _log_failure(event: Event) -> None:
    with suppress(BaseException):
        get_logger("streamer_worker").exception("listener_failed", about=type(event).__name__)
