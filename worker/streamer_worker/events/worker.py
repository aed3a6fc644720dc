"""Events about the worker's process, its heartbeat, its loops and the fleet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    """A worker has written its row and begins to poll. Emitted by `app`, again after a fence.

    actions: the actions it handles, sorted.
    concurrency: number of its slots.
    metrics_url: URL of /metrics. None: the HTTP server is off.
    endpoint: the URL that the client calls. None: the tables are in memory.
    region: the region of the tables. None: they are in memory.
    account: id of the AWS account of the tables. None: there is none, or it could not be read.
    table_prefix: prefix of the names of the tables. None: they have none in common.
    table_names: the names of the tables. None: `table_prefix` says them.
    release: version of streamer-worker.
    distributions: name and version of each package that has handlers, sorted.
    """

    worker_id: str
    endpoint: str | None = None
    region: str | None = None
    account: str | None = None
    table_prefix: str | None
    table_names: tuple[str, ...] | None = None
    concurrency: int
    metrics_url: str | None
    release: str
    distributions: tuple[str, ...]
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDraining:
    """The worker stops claiming and waits for its handlers. Emitted by `incarnation`.

    in_flight: number of requests that are not settled yet.
    """

    worker_id: str
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped:
    """The worker has ended in order. Emitted by `app`, as its last event."""

    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFenced:
    """The worker fences itself, because its lease may have expired or its row was removed.
    Emitted by `incarnation`. A new incarnation with another id follows.

    reason: why, as text.
    in_flight: number of used slots, whose handlers are cancelled.
    paused: its process used hardly any CPU meanwhile, so no request is a suspect.
    """

    worker_id: str
    reason: str
    in_flight: int
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatTried:
    """A heartbeat has ended. Emitted by `fleet.heartbeat`, on the heartbeat thread.

    outcome: `ok`; `failed`, with `error`; or `gone`: the row had been removed.
    seconds: duration of the write.
    error: why it failed, None otherwise.
    """

    outcome: str
    seconds: float
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetObserved:
    """The rows of all workers were read. Emitted by `fleet.heartbeat`, on the heartbeat thread.

    live: number of live workers, including this one.
    dead: number of workers whose lease has expired.
    leads: this worker is the leader.
    """

    live: int
    dead: int
    leads: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLagMeasured:
    """A timer of the event loop has fired. Emitted by `fleet.loop_watchdog`, four times a second.

    lag: how late it fired, in seconds.
    """

    lag: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBlocked:
    """The event loop has run no timer for a second. Emitted once for each blockage by
    `fleet.loop_watchdog`, on the heartbeat thread.

    seconds: how long the loop has been blocked so far.
    action, request_id: those of the request whose handler blocks it. None: no handler does.
    stack: the stack of the code that blocks it. It begins with the handler, and ends with the
        innermost call.
    """

    seconds: float
    action: str | None = None
    request_id: str | None = None
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnding:
    """The process ends at once, without its last writes. Other workers rescue its requests.
    Emitted by `fleet.loop_watchdog` and by `streamer-worker run`.

    reason: why, as text.
    stacks: the stacks of all threads, or "".
    """

    reason: str
    stacks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalHandlersRestored:
    """A plugin had replaced the worker's signal handlers. Emitted by `streamer-worker run`.

    signals: names of the signals whose handlers were installed again.
    """

    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadWorkerRemoved:
    """The row of a dead worker was deleted, so its requests can be rescued. Emitted by
    `maintenance.rescuer`.

    worker_id: the dead worker.
    host: the name of its host.
    removed_by: the worker that removed it, the leader.
    silence: seconds since the leader first saw its last heartbeat, None if unknown.
    in_flight: number of requests that it held at its last heartbeat.
    """

    worker_id: str
    host: str
    removed_by: str
    silence: float | None
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMismatch:
    """A table differs from one that `tables create` makes, but can be used. Emitted by `app`.

    table: name of the table.
    text: the difference.
    """

    table: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifespanFailed:
    """The lifespan of a handler group raised, or did not end in time. Emitted by
    `execution.lifespans`.

    actions: the actions of the group, separated by commas.
    error: the exception, or TimeoutError.
    """

    actions: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStarted:
    """A process for handlers was started. Emitted by `execution.processes`.

    pid: its process id.
    """

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnded:
    """A process ended while a handler ran in it. Emitted by `execution.processes`.

    pid: its process id.
    reason: the exit code or the signal, as text.
    """

    pid: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped:
    """The wall clock was changed by a minute or more. Emitted by `maintenance.reaper`.
    No connection is reaped until `reaper.stale_after` has passed.

    seconds: by how much it jumped, negative if backwards.
    """

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLinesSuppressed:
    """Events of a kind repeated and were not logged. Emitted by `monitoring.log_throttle`, before
    the next one that is logged.

    kind: the event's name in the log.
    count: how many were not logged.
    """

    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableUnavailable:
    """DynamoDB does not answer, fails or throttles. Emitted by `monitoring.outages`, for the log
    alone: when an outage begins, and once a minute while it lasts. It replaces the lines of the
    single failures.

    seconds: time since the first failure.
    failures: number of failures since the last line.
    outcomes: number of outcomes of requests that wait to be written now.
    error: the last failure.
    """

    seconds: float
    failures: int
    outcomes: int
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAvailable:
    """An outage has ended: calls have succeeded for some seconds, and no outcome waits. Emitted
    by `monitoring.outages`, for the log alone.

    seconds: time from the first failure until calls succeeded and all outcomes were written.
    failures: number of failures in that time.
    outcomes: number of outcomes that had to wait, and are written now.
    longest_wait: seconds that one of them waited at most.
    """

    seconds: float
    failures: int
    outcomes: int
    longest_wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsRefused:
    """DynamoDB refuses calls, because a policy denies them, credentials are wrong, or a table or
    an index is missing. That ends when an operator repairs it. Emitted by `monitoring.outages`, for
    the log alone, once a minute at most. It replaces the lines of the single failures.

    failures: number of failures since the last line.
    calls: the calls that failed since the last line, such as `Query requests`.
    error: the last failure.
    """

    failures: int
    calls: tuple[str, ...]
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """A step of a loop raised. The loop continues. Emitted by `concurrency.periodic`, and by
    services that have no periodic loop.

    loop: name of the loop, such as `poll`, `rescue`, `reap`, `push` or `http`.
    error: the exception.
    """

    loop: str
    error: Exception


WorkerEvent = (
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
    | DeadWorkerRemoved
    | TableMismatch
    | LifespanFailed
    | ChildStarted
    | ChildEnded
    | ClockJumped
    | LogLinesSuppressed
    | TableUnavailable
    | TableAvailable
    | CallsRefused
    | StepFailed
)
