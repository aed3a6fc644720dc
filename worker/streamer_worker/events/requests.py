"""Events about requests, from the queue to the outcome.

In all of them `request_id` and `action` are those of the request, and `attempt` counts from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """A poll has ended. Emitted by `intake.poller`; a poll that raised is a StepFailed instead.

    outcome: `claimed`; `empty`; or `skipped`: the worker's heartbeats fail, so it must not claim.
    seconds: duration of the poll with its claims.
    candidates: number of requests that this worker could have claimed.
    claimed: number of requests that it claimed.
    """

    outcome: str
    seconds: float
    candidates: int
    claimed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTried:
    """A claim has ended. Emitted by `intake.claimer`.

    outcome: `won`; `lost`: another worker was first, or the request had changed; `postponed`:
        it is a suspect and probation is occupied; or `error`.
    waited: seconds for which a request that was won could have been claimed, None if unknown.
    error: the error of the store, for the outcome `error`.
    """

    request_id: str
    action: str | None
    outcome: str
    waited: float | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReleased:
    """A claim whose answer was lost had succeeded, and was released. No handler ran, and no
    attempt was used. Emitted by `intake.claimer`.
    """

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRescued:
    """A request was taken from a dead worker. Emitted by `maintenance.rescuer`.

    worker_id: the dead worker. None: a consumer that keeps no worker rows.
    status: the request's new status.
    """

    request_id: str
    action: str | None
    worker_id: str | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted:
    """An attempt begins. Emitted by `execution.dispatcher`."""

    request_id: str
    action: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerRaised:
    """A handler raised. RequestFinished follows, with the outcome. Emitted by
    `execution.dispatcher`.

    error: the exception with its traceback, which is removed after the event.
    """

    request_id: str
    action: str
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRefused:
    """The payload does not fit its handler, which was not called. Emitted by
    `execution.dispatcher`.

    fields: paths of the invalid fields. Never their values.
    """

    request_id: str
    action: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerStuck:
    """A handler still runs, although it was cancelled and its grace period is over. Emitted by
    `execution.dispatcher`.

    reason: why it was cancelled, such as `timeout` or `claim_lost`.
    thread: it runs in a thread, and keeps the thread and its slot until it returns.
    """

    request_id: str
    action: str
    reason: str
    thread: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckHandlerEnded:
    """A stuck handler has returned. Emitted by `execution.dispatcher`.

    thread: it ran in a thread.
    """

    request_id: str
    action: str
    thread: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionUnknown:
    """A request waits whose action this worker does not handle, and no live worker lists.
    Emitted by `intake.poller`, once for each action.
    """

    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnhandledMeasured:
    """The leader has counted the waiting requests that no live worker handles. Emitted by
    `maintenance.unhandled`.

    counts: number of requests by action, empty if there are none.
    """

    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFinished:
    """An attempt has ended, and its outcome was written or given up. Emitted by
    `execution.dispatcher`.

    outcome: `completed`, `failed`, `retried`, `snoozed`, `timeout` (retried or not), `released`,
        `rescued`, `cancelled`, `claim_lost`, or `unsettled`: it could not be written.
    code: error code of the failure, None without one.
    seconds: time from the start of the attempt until its outcome was written.
    will_retry: another attempt follows.
    """

    request_id: str
    action: str
    attempt: int
    outcome: str
    code: str | None
    seconds: float
    will_retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsChanged:
    """The number of used slots has changed. Emitted by `intake.slots`, once for slots that are
    taken together.

    used: number of slots in use.
    total: number of all slots.
    """

    used: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFenced:
    """The fence refused a write: the claim is no longer ours. Emitted by `execution.settler`
    and `execution.progress`.

    operation: the write, such as `complete` or `progress`.
    cancelled: the request was cancelled. False: another worker has it.
    settles: the write was the attempt's outcome, which is lost.
    """

    request_id: str
    operation: str
    cancelled: bool
    settles: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleDelayed:
    """An outcome could not be written, and is tried again. Emitted by `execution.settler`.

    error: the error of the store.
    """

    request_id: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlesResumed:
    """No outcome is delayed any more. Emitted by `monitoring.log_throttle`, for the log alone.

    count: number of outcomes that were delayed.
    seconds: time since the first of them was delayed.
    """

    count: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressWritten:
    """Progress was written to the table. Emitted by `execution.progress`.

    reports: number of the handler's reports since the last write.
    """

    request_id: str
    reports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressDropped:
    """Progress could not be written. The handler continues, and a later write carries the newest
    progress. Emitted by `execution.progress`, once for consecutive failures.

    error: the error of the store. InvalidInput: this progress is never written.
    """

    request_id: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDelayed:
    """A checkpoint could not be written, and is tried again while the handler waits. Emitted by
    `execution.progress`.

    error: the error of the store.
    """

    request_id: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMeasured:
    """The leader has counted the requests of a status. Emitted by `maintenance.queue_depth`.

    With a DueIndex, those that wait for a later time are counted apart.

    status: the status.
    later: these are the requests that wait for a later time.
    count: number of requests, up to `depth.limit`.
    more: there may be more than `count`.
    oldest: age of the oldest request in seconds, None if there is none.
    """

    status: str
    count: int
    more: bool
    oldest: float | None
    later: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemUndecodable:
    """An item was read that is invalid. Emitted for every read of the stores by `app`, and by
    `intake.claimer` and `maintenance.rescuer`.

    table: name of its table.
    key: its primary key.
    reason: why it is invalid.
    """

    table: str
    key: str
    reason: str


RequestEvent = (
    Polled
    | ClaimTried
    | ClaimReleased
    | RequestRescued
    | RequestStarted
    | HandlerRaised
    | PayloadRefused
    | HandlerStuck
    | StuckHandlerEnded
    | ActionUnknown
    | UnhandledMeasured
    | RequestFinished
    | SlotsChanged
    | WriteFenced
    | SettleDelayed
    | SettlesResumed
    | ProgressWritten
    | ProgressDropped
    | CheckpointDelayed
    | QueueMeasured
    | ItemUndecodable
)
