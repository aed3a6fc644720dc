"""Which lines the log has of an outage of the table, and of calls that are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from streamer_store import AccessDenied, CallEnded, Capacity, StoreUnavailable, TableMissing
from streamer_worker.events import (
    CallsRefused,
    CheckpointDelayed,
    ClaimTried,
    FleetObserved,
    HeartbeatTried,
    LoopLagMeasured,
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
from streamer_worker.monitoring.outages import OutageLog
from support import ManualClock

if TYPE_CHECKING:
    from streamer_worker.events import Event

AWAY = StoreUnavailable("away", operation="Query", table="requests")
DENIED = AccessDenied("no", operation="Scan", table="workers")
TICK = LoopLagMeasured(lag=0.0)
BEAT = HeartbeatTried(outcome="ok", seconds=0.1)
MISSED = HeartbeatTried(outcome="failed", seconds=0.1, error=AWAY)
FAILED = StepFailed(loop="poll", error=AWAY)
FINISHED = RequestFinished(
    request_id="r1", action="a", attempt=1, outcome="completed", code=None, seconds=1.0
)


def delayed(request_id: str, error: Exception = AWAY) -> SettleDelayed:
    return SettleDelayed(request_id=request_id, error=error)


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lines: list[Event] = []
        self._log = OutageLog(self.lines.append, clock=self.clock)

    def emit(self, *events: Event, after: float = 0.0) -> list[Event]:
        """Emit events, and return what has been logged of them, without ticks and heartbeats."""
        self.clock.advance(after)
        self.lines.clear()
        for event in events:
            self._log(event)
        return [line for line in self.lines if line not in (TICK, BEAT)]

    def fail_for(self, seconds: int) -> list[Event]:
        """Fail once a second; return the lines."""
        return [line for _ in range(seconds) for line in self.emit(FAILED, MISSED, TICK, after=1)]

    def succeed_for(self, seconds: int) -> list[Event]:
        return [line for _ in range(seconds) for line in self.emit(BEAT, TICK, after=1)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_outage_is_a_line_a_minute_and_one_at_its_end(bench: Bench) -> None:
    """The lines have the number of failures since the last line, and the end has all of them."""
    first = TableUnavailable(seconds=0.0, failures=1, outcomes=0, error=AWAY)
    assert bench.emit(FAILED) == [first]
    minute = replace(first, seconds=60.0, failures=119)
    assert bench.fail_for(150) == [minute, replace(first, seconds=120.0, failures=120)]
    assert bench.succeed_for(11) == []
    end = TableAvailable(seconds=151.0, failures=301, outcomes=0, longest_wait=0.0)
    assert bench.succeed_for(3) == [end]


def test_a_call_that_fails_late_belongs_to_the_outage(bench: Bench) -> None:
    """A call that got no answer fails 10 s after the table is back."""
    bench.emit(FAILED)
    assert bench.succeed_for(10) == []
    assert bench.emit(MISSED) == []
    (end,) = bench.succeed_for(13)
    assert isinstance(end, TableAvailable)
    assert end.failures == 2


def test_the_end_has_the_outcomes_that_waited(bench: Bench) -> None:
    """It is logged when none of them waits any more."""
    ids = [f"r{number}" for number in range(4)]
    (line,) = bench.emit(*map(delayed, ids))
    assert isinstance(line, TableUnavailable)
    assert line.outcomes == 1
    bench.fail_for(10)
    assert bench.emit(BEAT, after=5) == []
    first, written, lost, given_up = (
        replace(FINISHED, request_id=request_id, outcome=outcome)
        for request_id, outcome in zip(
            ids, ("completed", "retried", "claim_lost", "unsettled"), strict=True
        )
    )
    assert bench.emit(first) == [first]
    assert bench.succeed_for(20) == []
    assert bench.emit(written, lost, given_up) == [
        written,
        lost,
        TableAvailable(seconds=35.0, failures=24, outcomes=2, longest_wait=35.0),
        given_up,
    ]


def test_an_outcome_whose_end_is_unknown_does_not_hide_the_end(bench: Bench) -> None:
    """Its task may have been destroyed with the incarnation."""
    bench.emit(delayed("r1"))
    bench.emit(BEAT)
    assert bench.succeed_for(59) == []
    (end,) = bench.succeed_for(1)
    assert isinstance(end, TableAvailable)


@pytest.mark.parametrize(
    "success",
    [
        BEAT,
        HeartbeatTried(outcome="gone", seconds=0.1),
        Polled(outcome="empty", seconds=0.1, candidates=0, claimed=0),
        FleetObserved(live=1, dead=0, leads=True),
        ProgressWritten(request_id="r1", reports=1),
        CallEnded(operation="Query", seconds=0.1, capacity=(Capacity("t", "", 1.0),)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_answers_of_the_table_end_an_outage(success: Event, bench: Bench) -> None:
    """The tables answer a call of one of the clients, and no call fails for some seconds."""
    bench.emit(FAILED)
    bench.emit(success)
    (end,) = bench.emit(TICK, after=12)
    assert isinstance(end, TableAvailable)


@pytest.mark.parametrize(
    "event",
    [
        TICK,
        Polled(outcome="skipped", seconds=0.0, candidates=0, claimed=0),
        CallEnded(operation="Query", seconds=4.0),
        PushTried(type="complete", outcome="sent"),
        FINISHED,
    ],
    ids=lambda event: type(event).__name__,
)
def test_without_an_answer_an_outage_lasts(event: Event, bench: Bench) -> None:
    """However long no call is made."""
    bench.emit(FAILED)
    assert [bench.emit(event, after=60) for _ in range(3)] == [[event] * (event != TICK)] * 3


@pytest.mark.parametrize(
    "event",
    [
        FAILED,
        MISSED,
        HeartbeatTried(outcome="failed", seconds=4.0, error=TimeoutError()),
        ClaimTried(request_id="r1", action="a", outcome="error", error=AWAY),
        delayed("r1"),
        ProgressDropped(request_id="r1", error=AWAY),
        CheckpointDelayed(request_id="r1", error=AWAY),
        PushServiceFailed(error=AWAY),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_kind_of_failure_belongs_to_the_outage(event: Event, bench: Bench) -> None:
    """The first is logged as the outage, and the others are counted."""
    (line,) = bench.emit(event, event, event)
    assert isinstance(line, TableUnavailable)
    assert line.error is event.error  # type: ignore[union-attr]
    assert bench.emit(FAILED, after=59) == []


def test_a_push_without_recipients_is_part_of_an_outage(bench: Bench) -> None:
    """Without an outage it is an event of its own."""
    unresolved = PushTried(type="complete", outcome="unresolved", code="StoreUnavailable")
    assert bench.emit(unresolved) == [unresolved]
    bench.emit(FAILED)
    assert bench.emit(unresolved) == []


@pytest.mark.parametrize("healthy", [1, 4, 9, 30])
def test_outages_that_repeat_are_bounded(healthy: int, bench: Bench) -> None:
    """Some calls of a table that throttles succeed."""
    lines = []
    for _ in range(1200 // (1 + healthy)):
        lines += bench.fail_for(1) + bench.succeed_for(healthy)
    assert len(lines) <= 20 + 8
    assert isinstance(lines[0], TableUnavailable)


def test_an_outage_soon_after_the_last_one_is_logged_at_once(bench: Bench) -> None:
    """A minute without a line would hide it."""
    bench.emit(FAILED)
    bench.succeed_for(15)
    (line,) = bench.emit(FAILED)
    assert isinstance(line, TableUnavailable)


def test_the_end_of_the_worker_does_not_hide_the_end(bench: Bench) -> None:
    """A worker that stops is the last event. An outage that lasts has no end then."""
    stopped = WorkerStopped(worker_id="w1")
    bench.emit(FAILED)
    assert bench.emit(stopped) == [stopped]
    end, last = bench.emit(BEAT, stopped)
    assert isinstance(end, TableAvailable)
    assert last == stopped


def test_calls_that_are_refused_are_one_line_a_minute(bench: Bench) -> None:
    """They name each call. They are no outage: an operator must act."""
    missing = TableMissing("none", operation="Query", table="requests")
    refused = StepFailed(loop="rescue", error=DENIED)
    first = CallsRefused(failures=1, calls=("Scan workers",), error=DENIED)
    assert bench.emit(refused, refused, BEAT) == [first]
    assert bench.emit(StepFailed(loop="poll", error=missing), after=59) == []
    both = ("Query requests", "Scan workers")
    assert bench.emit(refused, after=1) == [CallsRefused(failures=3, calls=both, error=DENIED)]
    assert bench.succeed_for(100) == []


def test_outcomes_that_wait_for_an_operator_are_their_own_lines(bench: Bench) -> None:
    """The line says which request waits. LogThrottle limits these."""
    waiting = delayed("r1", DENIED)
    refused, line = bench.emit(waiting)
    assert isinstance(refused, CallsRefused)
    assert line == waiting
    assert bench.emit(waiting) == [waiting]


def test_other_errors_are_passed_on(bench: Bench) -> None:
    """Also during an outage."""
    broken = StepFailed(loop="poll", error=ValueError("x"))
    timed_out = StepFailed(loop="push", error=TimeoutError())
    won = ClaimTried(request_id="r", action="a", outcome="won")
    events: list[Event] = [broken, timed_out, won, FINISHED]
    assert bench.emit(*events) == events
    bench.emit(FAILED)
    assert bench.emit(*events) == events
