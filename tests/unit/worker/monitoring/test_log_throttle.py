"""Which events are logged in an outage, and for invalid items."""

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


def test_an_invalid_item_is_logged_once_a_day(bench: Bench) -> None:
    """It is logged once for each reason, however often it is read."""
    odd = ItemUndecodable(table="workers", key="w1", reason="Beat: expected a number")
    other = replace(odd, key="w2")
    worse = replace(odd, reason="Host: expected a text")
    assert bench.emit(odd, odd, odd) == [odd]
    assert bench.emit(other, odd, worse, after=4) == [other, worse]
    assert bench.emit(odd, other, worse, after=3600) == []
    assert bench.emit(odd, odd, after=24 * 3600) == [odd]


def test_delayed_outcomes_are_one_line_a_minute(bench: Bench) -> None:
    """The first is logged, then one a minute with the number of the others, and the end."""
    ids = [f"r{number}" for number in range(32)]
    first, *_ = events = [delayed(request_id) for request_id in ids]
    assert bench.emit(*events) == [first]
    assert bench.emit(*events, after=10) == []
    line = LogLinesSuppressed(kind="settle_delayed", count=63)
    assert bench.emit(*events, after=50) == [line, first]
    ends: list[Event] = [finished(request_id) for request_id in ids]
    *early, last = ends
    assert bench.emit(*early, after=5) == early
    assert bench.emit(last) == [SettlesResumed(count=32, seconds=65.0), last]


def test_an_outage_of_half_an_hour_is_some_thirty_lines(bench: Bench) -> None:
    """A worker with 32 slots would otherwise log 200 lines a minute."""
    count = 0
    for _ in range(180):
        lines = bench.emit(*(delayed(f"r{number}") for number in range(32)), after=10)
        count += sum(isinstance(line, SettleDelayed) for line in lines)
    assert count == 30


def test_short_outages_that_repeat_are_bounded_too(bench: Bench) -> None:
    """An outage whose start was not logged has no line for its end."""
    lines = []
    for number in range(120):
        lines += bench.emit(delayed(f"r{number}"), after=0.25)
        lines += bench.emit(finished(f"r{number}"), after=0.25)
    logged = [line for line in lines if not isinstance(line, RequestFinished)]
    assert logged == [delayed("r0"), SettlesResumed(count=1, seconds=0.25)]


def test_an_outcome_that_is_given_up_is_no_resumption(bench: Bench) -> None:
    """The table is still unavailable then."""
    bench.emit(delayed("r1"))
    given_up = replace(finished("r1"), outcome="unsettled")
    assert bench.emit(given_up) == [given_up]


def test_a_request_without_a_delay_is_no_resumption(bench: Bench) -> None:
    """Other requests end while one is delayed."""
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
def test_events_that_an_outage_repeats_are_one_line_a_minute(event: Event, bench: Bench) -> None:
    """Each kind of event is limited on its own."""
    assert bench.emit(delayed("r1")) == [delayed("r1")]
    assert bench.emit(event, event, event) == [event]
    suppressed, again = bench.emit(event, after=60)
    assert isinstance(suppressed, LogLinesSuppressed)
    assert suppressed.kind.replace("_", "") == type(event).__name__.lower()
    assert (suppressed.count, again) == (2, event)


def test_other_events_are_all_logged(bench: Bench) -> None:
    """A loop that fails has a backoff of its own."""
    failed = StepFailed(loop="poll", error=AWAY)
    sent = PushTried(type="complete", outcome="sent")
    won = ClaimTried(request_id="r", action="a", outcome="won")
    events: list[Event] = [failed, failed, sent, sent, won, won]
    assert bench.emit(*events) == events
