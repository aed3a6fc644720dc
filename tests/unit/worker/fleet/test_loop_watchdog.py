"""Watching an event loop from another thread."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest

from streamer_worker.events import Events, LoopBlocked, ProcessEnding
from streamer_worker.fleet.loop_watchdog import (
    TICK,
    InterpreterWatchdog,
    LoopWatch,
    all_stacks,
    stack_of,
    with_report,
)
from support import ManualClock, make_runtime
from unit.worker.faulty_engine import PATIENCE
from unit.worker.harness import Recorder

pytestmark = pytest.mark.anyio

STUCK_AFTER = 300.0


class Bench:
    """A LoopWatch on a manual clock, of a thread that is blocked in `hog`."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.time = ManualClock()
        self.ended: list[str] = []
        self._released = threading.Event()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), name="watched")
        self.thread.start()
        assert started.wait(PATIENCE)

    def _run(self, started: threading.Event) -> None:
        self.watch = LoopWatch(
            stuck_after=STUCK_AFTER,
            runtime=make_runtime(self.recorder, clock=self.time),
            end_process=self.ended.append,
        )
        self.hog(started)

    def hog(self, started: threading.Event) -> None:
        started.set()
        self._released.wait(PATIENCE)

    def release(self) -> None:
        self._released.set()
        self.thread.join()

    async def check_for(self, seconds: float, every: float = TICK) -> None:
        for _ in range(round(seconds / every)):
            self.time.advance(every)
            await self.watch.check()

    def reports(self) -> list[float]:
        return [event.seconds for event in self.recorder.of(LoopBlocked)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.release()


async def test_a_loop_that_runs_is_not_reported(bench: Bench) -> None:
    """However long it is watched."""
    for _ in range(1000):
        await bench.watch.tick()
        await bench.check_for(TICK)
    assert (bench.reports(), bench.ended) == ([], [])


async def test_a_loop_that_is_blocked_for_a_second_is_reported_once(bench: Bench) -> None:
    """Not before, and not again for the same block."""
    await bench.check_for(1 - TICK)
    assert bench.reports() == []
    await bench.check_for(60)
    assert bench.reports() == [1.0]


async def test_the_report_has_the_stack_of_the_watched_thread(bench: Bench) -> None:
    """Not the stack of the thread that checks."""
    await bench.check_for(1)
    (event,) = bench.recorder.of(LoopBlocked)
    assert "in hog" in event.stack
    assert "in check" not in event.stack


async def test_the_next_block_is_reported_again(bench: Bench) -> None:
    """It counts from its own beginning, after a tick."""
    await bench.check_for(5)
    await bench.watch.tick()
    await bench.check_for(1)
    assert bench.reports() == [1.0]
    await bench.check_for(1)
    assert bench.reports() == [1.0, 1.0]


async def test_a_loop_that_stays_blocked_ends_the_process(bench: Bench) -> None:
    """After `stuck_after`."""
    await bench.check_for(STUCK_AFTER - TICK)
    assert bench.ended == []
    await bench.check_for(TICK)
    assert bench.ended == ["the event loop has been blocked for 300 s"]


async def test_a_loop_that_runs_now_and_then_does_not_end_the_process(bench: Bench) -> None:
    """Each tick starts the count again."""
    for _ in range(3):
        await bench.check_for(STUCK_AFTER - 1)
        await bench.watch.tick()
    assert bench.ended == []


async def test_a_pause_of_the_whole_process_is_not_a_block(bench: Bench) -> None:
    """Between two checks at most two ticks are counted."""
    await bench.check_for(3600, every=3600)
    assert (bench.reports(), bench.ended) == ([], [])
    await bench.check_for(2 * TICK)
    assert bench.reports() == [4 * TICK]


def test_a_thread_that_has_ended_has_no_stack(bench: Bench) -> None:
    """It may end while its stack is read."""
    bench.release()
    assert stack_of(bench.thread.ident or 0) == ""


def test_all_stacks_are_named_and_the_main_one_is_last(bench: Bench) -> None:
    """Logs cut long texts at the beginning, and the main thread runs the loop."""
    stacks = dict(re.findall(r"^Thread (.+):\n((?: .*\n?)*)", all_stacks(), re.MULTILINE))
    assert list(stacks)[-1] == threading.main_thread().name
    assert "in all_stacks" in stacks[threading.main_thread().name]
    assert "in hog" in stacks[bench.thread.name]


def test_the_end_of_the_process_is_reported_before(bench: Bench) -> None:
    """The report has the reason and all stacks."""
    calls: list[object] = []
    with_report(Events(calls.append), calls.append)("the loop is stuck")
    event, ended = calls
    assert isinstance(event, ProcessEnding)
    assert event.reason == ended == "the loop is stuck"
    assert "Thread watched:" in event.stacks
    assert bench.ended == []


def test_the_process_ends_although_the_report_fails() -> None:
    """An error of a listener does not prevent it."""

    def fail(_event: object) -> None:
        raise ValueError("no disk")

    ended: list[str] = []
    with_report(Events(fail), ended.append)("the loop is stuck")
    assert ended == ["the loop is stuck"]


def test_the_process_ends_although_the_report_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a log does on a pipe that is full."""
    monkeypatch.setattr("streamer_worker.fleet.loop_watchdog._REPORT_TIMEOUT", 0.01)
    read = threading.Event()
    ended: list[str] = []

    def block(_event: object) -> None:
        read.wait(PATIENCE)

    with_report(Events(block), ended.append)("the loop is stuck")
    assert ended == ["the loop is stuck"]
    read.set()


async def test_each_check_renews_the_watchdog_of_the_interpreter() -> None:
    """It is stopped with the watch, so it does not end a worker that has ended."""
    calls: list[str] = []

    class Watchdog(InterpreterWatchdog):
        def renew(self) -> None:
            calls.append("renew")

        def stop(self) -> None:
            calls.append("stop")

    watch = LoopWatch(
        stuck_after=5,
        runtime=make_runtime(clock=ManualClock()),
        end_process=calls.append,
        watchdog=Watchdog(seconds=5, descriptor=2),
    )
    await watch.check()
    await watch.check()
    watch.stop()
    assert calls == ["renew", "renew", "stop"]
