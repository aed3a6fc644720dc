"""Which events become log lines, in an outage and of broken items."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from streamer_store import StoreUnavailable
from streamer_worker.events import (
    CheckpointDelayed,
    ClaimTried,
    ConnectionSuspended,
    EndpointRefused,
    ItemUndecodable,
    LogLinesSuppressed,
    ProgressDropped,
    PushTried,
    RequestFinished,
    SettleDelayed,
    SettlesResumed,
    StepFailed,
)
from streamer_worker.monitoring.log_throttle import LogThrottle
from support import ManualClock

if TYPE_CHECKING:
    from streamer_worker.events import Event

AWAY = StoreUnavailable("away")
FINISHED = RequestFinished(
    request_id="r", action="a", attempt=1, outcome="completed", code=None, seconds=1.0
)


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lines: list[Event] = []
        self._throttle = LogThrottle(self.lines.append, clock=self.clock)

    def emit(self, *events: Event, after: float = 0.0) -> list[Event]:
        """Emit events, and return what has been logged of them."""
        self.clock.advance(after)
        self.lines.clear()
        for event in events:
            self._throttle(event)
        return list(self.lines)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def delayed(request_id: str) -> SettleDelayed:
    return SettleDelayed(request_id=request_id, error=AWAY)


def finished(request_id: str) -> RequestFinished:
    return replace(FINISHED, request_id=request_id)


def test_an_odd_item_is_logged_once(bench: Bench) -> None:
    """Once for each item and reason, however often it is read; again a day later."""
    odd = ItemUndecodable(table="workers", key="w1", reason="Beat: expected a number")
    other = replace(odd, key="w2")
    worse = replace(odd, reason="Host: expected a text")
    assert bench.emit(odd, odd, odd) == [odd]
    assert bench.emit(other, odd, worse, after=4) == [other, worse]
    assert bench.emit(odd, other, worse, after=3600) == []
    assert bench.emit(odd, odd, after=24 * 3600) == [odd]


def test_settles_in_an_outage_are_a_line_a_minute(bench: Bench) -> None:
    """One when it begins, one a minute with the number that were not logged, one at its end."""
    ids = [f"r{number}" for number in range(32)]
    first, *_ = events = [delayed(each) for each in ids]
    assert bench.emit(*events) == [first]
    assert bench.emit(*events, after=10) == []
    line = LogLinesSuppressed(kind="settle_delayed", count=63)
    assert bench.emit(*events, after=50) == [line, first]
    ends: list[Event] = [finished(each) for each in ids]
    *early, last = ends
    assert bench.emit(*early, after=5) == early
    assert bench.emit(last) == [SettlesResumed(count=32, seconds=65.0), last]


def test_an_outage_of_half_an_hour_is_some_thirty_lines(bench: Bench) -> None:
    """A worker of 32 slots: not 200 lines a minute."""
    count = 0
    for _ in range(180):
        lines = bench.emit(*(delayed(f"r{number}") for number in range(32)), after=10)
        count += sum(isinstance(each, SettleDelayed) for each in lines)
    assert count == 30


def test_short_outages_that_repeat_are_bounded_too(bench: Bench) -> None:
    """What has no line at its beginning has none at its end."""
    lines = []
    for number in range(120):
        lines += bench.emit(delayed(f"r{number}"), after=0.25)
        lines += bench.emit(finished(f"r{number}"), after=0.25)
    told = [each for each in lines if not isinstance(each, RequestFinished)]
    assert told == [delayed("r0"), SettlesResumed(count=1, seconds=0.25)]


def test_an_outcome_that_is_given_up_resumes_nothing(bench: Bench) -> None:
    """The table is still away when the worker's patience ends."""
    bench.emit(delayed("r1"))
    given_up = replace(finished("r1"), outcome="unsettled")
    assert bench.emit(given_up) == [given_up]


def test_a_request_that_never_waited_ends_nothing(bench: Bench) -> None:
    """Others end their requests all the time."""
    bench.emit(delayed("r1"))
    assert bench.emit(finished("r2")) == [finished("r2")]


@pytest.mark.parametrize(
    "event",
    [
        CheckpointDelayed(request_id="r", error=AWAY),
        ClaimTried(request_id="r", action="a", outcome="error", error=AWAY),
        ProgressDropped(request_id="r", error=AWAY),
        PushTried(type="complete", outcome="unresolved"),
        EndpointRefused(connection_id="c", reason="x"),
        ConnectionSuspended(connection_id="c", code="503"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_an_outage_repeats_is_a_line_a_minute(event: Event, bench: Bench) -> None:
    """Of each kind for itself."""
    assert bench.emit(delayed("r1")) == [delayed("r1")]
    assert bench.emit(event, event, event) == [event]
    suppressed, again = bench.emit(event, after=60)
    assert isinstance(suppressed, LogLinesSuppressed)
    assert suppressed.kind.replace("_", "") == type(event).__name__.lower()
    assert (suppressed.count, again) == (2, event)


def test_all_else_is_passed_on(bench: Bench) -> None:
    """Loops that fail have pauses of their own."""
    failed = StepFailed(loop="poll", error=AWAY)
    sent = PushTried(type="complete", outcome="sent")
    won = ClaimTried(request_id="r", action="a", outcome="won")
    events: list[Event] = [failed, failed, sent, sent, won, won]
    assert bench.emit(*events) == events
