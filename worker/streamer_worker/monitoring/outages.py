"""Makes a few log lines of an outage of the table, in place of all the failures that it causes."""

from __future__ import annotations

from contextvars import Context
from threading import Lock
from typing import Final

from streamer_store import (
    AccessDenied,
    CallEnded,
    Clock,
    StoreError,
    StoreUnavailable,
    TableMissing,
)
from streamer_worker.events import (
    CallsRefused,
    CheckpointDelayed,
    ClaimTried,
    Event,
    FleetObserved,
    HeartbeatTried,
    Listener,
    Polled,
    ProgressDropped,
    ProgressWritten,
    PushServiceFailed,
    PushTried,
    RequestFinished,
    SettleDelayed,
    StepFailed,
    TableAvailable,
    TableUnavailable,
    WorkerStopped,
)

# Seconds between two lines while an outage lasts.
_EVERY: Final = 60.0
# Seconds without a failure after which an outage has ended. A call that got no answer fails up to
# 10 s later, when its time to read ends (`read_timeout` of `open_stores`). An outage that begins
# less than a minute after the last one needs twice as many seconds as that one, up to a minute.
_QUIET: Final = 12.0
_LONGEST_QUIET: Final = 60.0

# The events that may carry an error of the store.
_WITH_ERRORS: Final = (
    CheckpointDelayed,
    ClaimTried,
    HeartbeatTried,
    ProgressDropped,
    PushServiceFailed,
    SettleDelayed,
    StepFailed,
)
# The outcomes of requests of which the fence refused what had waited.
_REFUSED: Final = frozenset({"cancelled", "claim_lost"})
_NOTED: Final = frozenset({*_WITH_ERRORS, PushTried})


class OutageLog:
    """Passes events to `log`, a listener, without the failures of calls to DynamoDB.

    There are three cases:

    1. DynamoDB does not answer, fails or throttles: TableUnavailable for the first failure, then
       at most once a minute. TableAvailable follows once calls succeed and no outcome waits.
    2. DynamoDB refuses a call, which an operator must repair: CallsRefused, at most once a minute.
       Outcomes that wait for this reason are passed on, too.
    3. All other events are passed on.

    May be called from any thread. Metrics are listeners of their own, and count every event.
    """

    def __init__(self, log: Listener, *, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        # Held for every access to the fields below, by whichever thread emits the event, except
        # that `is_open` is read without it.
        self._lock = Lock()
        self._outage = _Outage()
        self._refusals = _Refusals()

    def __call__(self, event: Event) -> None:
        if type(event) not in _NOTED and not self._outage.is_open:
            self._log(event)
            return
        error = event.error if isinstance(event, _WITH_ERRORS) else None
        if error is None and not self._outage.is_open:
            self._log(event)
            return
        with self._lock:
            events = self._filter(event, error, self._clock.steady())
        for passed in events:
            if passed is event:
                self._log(passed)
            else:  # without the log fields of the request that this task belongs to
                Context().run(self._log, passed)

    def _filter(self, event: Event, error: Exception | None, now: float) -> list[Event]:
        """Return the events to log in place of this one."""
        if error is not None and _is_unavailable(event, error):
            return self._outage.fail(event, error, now)
        if isinstance(error, (AccessDenied, TableMissing)):
            refused = self._refusals.add(error, now)
            return [*refused, event] if isinstance(event, SettleDelayed) else refused
        if isinstance(event, PushTried) and event.code == StoreUnavailable.__name__:
            return []  # an outage is open, and has been reported
        return [*self._outage.observe(event, now), event]


class _Outage:
    """The current outage, if there is one."""

    def __init__(self) -> None:
        self.is_open = False
        # Steady times. None: no line yet, no success since the last failure, no outage before.
        self._began = 0.0
        self._failed_at = 0.0
        self._recovered_at: float | None = None
        self._ended_at: float | None = None
        self._next_line = 0.0
        self._quiet = _QUIET
        self._failures = 0
        self._unlogged = 0
        # When each outcome that waits was first delayed, by the id of its request.
        self._waiting: dict[str, float] = {}
        self._written = 0
        self._longest_wait = 0.0

    def fail(self, event: Event, error: Exception, now: float) -> list[Event]:
        """Note a failure, and return the line for it, if it is time for one."""
        if not self.is_open:
            self._begin(now)
        self._failed_at, self._recovered_at = now, None
        self._failures += 1
        self._unlogged += 1
        if isinstance(event, SettleDelayed):
            self._waiting.setdefault(event.request_id, now)
        if now < self._next_line:
            return []
        self._next_line = now + _EVERY
        line = TableUnavailable(
            seconds=now - self._began,
            failures=self._unlogged,
            outcomes=len(self._waiting),
            error=error,
        )
        self._unlogged = 0
        return [line]

    def observe(self, event: Event, now: float) -> list[Event]:
        """Note an event that is no failure, and return the line for the end of the outage, if it
        has ended.
        """
        if not self.is_open:
            return []
        if isinstance(event, RequestFinished):
            self._finish(event, now)
        if self._recovered_at is None and _is_success(event):
            self._recovered_at = now
        if self._recovered_at is None or not self._is_over(event, now):
            return []
        self.is_open = False
        self._ended_at = now
        return [
            TableAvailable(
                seconds=self._recovered_at - self._began,
                failures=self._failures,
                outcomes=self._written,
                longest_wait=self._longest_wait,
            )
        ]

    def _begin(self, now: float) -> None:
        again = self._ended_at is not None and now - self._ended_at < _EVERY
        self._quiet = min(2 * self._quiet, _LONGEST_QUIET) if again else _QUIET
        self.is_open = True
        self._began = self._next_line = now
        self._failures = self._unlogged = self._written = 0
        self._longest_wait = 0.0
        self._waiting.clear()

    def _finish(self, event: RequestFinished, now: float) -> None:
        """Note that an outcome waits no longer: it was written, refused or given up."""
        delayed_at = self._waiting.pop(event.request_id, None)
        if delayed_at is None or event.outcome == "unsettled":
            return
        self._recovered_at = now
        if event.outcome not in _REFUSED:
            self._written += 1
            self._longest_wait = max(self._longest_wait, now - delayed_at)

    def _is_over(self, event: Event, now: float) -> bool:
        """Return whether calls have succeeded for long enough. The last event of the worker does
        not wait for that.
        """
        quiet = now - self._failed_at
        if isinstance(event, WorkerStopped):
            return not self._waiting
        # An outcome that waits is tried again within a minute. A failure would end the quiet.
        return quiet >= (_LONGEST_QUIET if self._waiting else self._quiet)


class _Refusals:
    """The calls that DynamoDB refuses."""

    def __init__(self) -> None:
        self._next_line: float | None = None
        self._failures = 0
        # Bounded, as there are few operations and tables.
        self._calls: set[str] = set()

    def add(self, error: StoreError, now: float) -> list[Event]:
        """Note a failure, and return the line for it, if it is time for one."""
        self._failures += 1
        self._calls.add(f"{error.operation} {error.table}".strip())
        if self._next_line is not None and now < self._next_line:
            return []
        self._next_line = now + _EVERY
        line = CallsRefused(failures=self._failures, calls=tuple(sorted(self._calls)), error=error)
        self._failures = 0
        self._calls.clear()
        return [line]


def _is_unavailable(event: Event, error: Exception) -> bool:
    """Return whether DynamoDB did not answer, failed or throttled. Expired credentials count: they
    are renewed.
    """
    # A heartbeat has a time limit of its own.
    late = isinstance(error, TimeoutError) and isinstance(event, HeartbeatTried)
    return late or isinstance(error, StoreUnavailable)


def _is_success(event: Event) -> bool:
    """Return whether the event shows that DynamoDB has answered a call."""
    match event:
        case HeartbeatTried(outcome="ok" | "gone") | Polled(outcome="claimed" | "empty"):
            return True
        case CallEnded(capacity=capacity):
            return bool(capacity)
    return isinstance(event, (FleetObserved, ProgressWritten))
