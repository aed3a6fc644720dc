"""The clock that is corrected by the Date of DynamoDB's answers."""

from __future__ import annotations

import pytest

from streamer_store import CallEnded
from streamer_store.rates import MICROSECONDS
from streamer_worker.events import ClockSkewed, Events
from streamer_worker.fleet.server_clock import ServerClock
from support import START, ManualClock
from unit.worker.harness import Recorder


def answered(clock: ManualClock, server: ServerClock, *, ahead: float, count: int = 40) -> None:
    """Let calls of 20 ms end, at any part of a second, on a server that is ahead."""
    for _ in range(count):
        clock.advance(0.37)
        made = clock.now().timestamp() - 0.01 + ahead
        server(CallEnded(operation="Query", seconds=0.02, date=int(made // 1)))


def seconds(server: ServerClock, clock: ManualClock) -> float:
    return server.microseconds() / MICROSECONDS - clock.now().timestamp()


@pytest.mark.parametrize("ahead", [0.0, 0.2, -0.2, 0.4, -0.4])
def test_what_whole_seconds_cannot_tell_is_not_corrected(ahead: float) -> None:
    """Clocks of hosts that are synchronised stay as they are."""
    clock = ManualClock()
    server = ServerClock(clock)
    answered(clock, server, ahead=ahead)
    assert abs(server.offset - ahead) < 0.1
    assert abs(seconds(server, clock)) < 0.01


@pytest.mark.parametrize("ahead", [3600.0, 5.25, -5.25, -3600.0])
def test_a_clock_that_is_off_is_corrected_within_a_second(ahead: float) -> None:
    """To half a second of DynamoDB's time, as far as the median tells."""
    clock = ManualClock()
    server = ServerClock(clock)
    answered(clock, server, ahead=ahead)
    assert abs(seconds(server, clock) - ahead) < 0.6


@pytest.mark.parametrize("ahead", [60.0, -60.0])
def test_a_clock_that_is_seconds_off_is_corrected_at_once(ahead: float) -> None:
    """From the first answer on: a worker that starts takes no permits of another time."""
    clock = ManualClock()
    server = ServerClock(clock)
    answered(clock, server, ahead=ahead, count=1)
    assert abs(seconds(server, clock) - ahead) < 1


@pytest.mark.parametrize("ahead", [60.0, -60.0])
def test_a_clock_that_is_set_is_corrected_soon(ahead: float) -> None:
    """After three answers, although there are 61 of before. And again when it is set back."""
    clock = ManualClock()
    server = ServerClock(clock)
    answered(clock, server, ahead=0, count=61)
    answered(clock, server, ahead=ahead, count=3)
    assert abs(seconds(server, clock) - ahead) < 1
    answered(clock, server, ahead=0, count=3)
    assert abs(seconds(server, clock)) < 1


def test_single_answers_do_not_count() -> None:
    """Too few, slow ones, and those without a Date."""
    clock = ManualClock()
    server = ServerClock(clock)
    answered(clock, server, ahead=1.5, count=4)
    assert server.offset == 0
    for _ in range(9):
        clock.advance(1)
        server(CallEnded(operation="Scan", seconds=9, date=0))
        server(CallEnded(operation="Scan", seconds=0.1))
    assert server.offset == 0
    answered(clock, server, ahead=0, count=30)
    assert abs(server.offset) < 0.1


@pytest.mark.anyio
async def test_a_clock_that_is_two_seconds_off_is_reported_once() -> None:
    """And again after it was right."""
    clock, recorder = ManualClock(), Recorder()
    events, server = Events(recorder), ServerClock(clock)
    for ahead in (0.0, 3.0, 3.0, 0.0, -3.0):
        answered(clock, server, ahead=ahead, count=61)
        await server.check(events)
    reported = [round(event.seconds) for event in recorder.of(ClockSkewed)]
    assert reported == [-3, 3]
    assert server.pause(None) > 0
    assert clock.now() > START
