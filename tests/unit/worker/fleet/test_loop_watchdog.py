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
from support import ManualClock
from unit.worker.harness import PATIENCE, Recorder

pytestmark = pytest.mark.anyio

STUCK_AFTER = 300.0


class Bench:
    """A watch, on a clock that is moved by hand, of a thread that is stuck in `hog`."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.time = ManualClock()
        self.ended: list[str] = []
        self._go = threading.Event()
        made = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(made,), name="watched")
        self.thread.start()
        assert made.wait(PATIENCE)

    def _run(self, made: threading.Event) -> None:
        self.watch = LoopWatch(
            stuck_after=STUCK_AFTER,
            events=Events(self.recorder),
            clock=self.time,
            end_process=self.ended.append,
        )
        self.hog(made)

    def hog(self, made: threading.Event) -> None:
        made.set()
        self._go.wait(PATIENCE)

    def let_go(self) -> None:
        self._go.set()
        self.thread.join()

    async def check_for(self, seconds: float, every: float = TICK) -> None:
        for _ in range(round(seconds / every)):
            self.time.advance(every)
            await self.watch.check()

    def told(self) -> list[float]:
        return [each.seconds for each in self.recorder.of(LoopBlocked)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.let_go()


async def test_a_loop_that_turns_is_not_spoken_of(bench: Bench) -> None:
    """However long it is watched."""
    for _ in range(1000):
        await bench.watch.tick()
        await bench.check_for(TICK)
    assert (bench.told(), bench.ended) == ([], [])


async def test_a_loop_that_is_blocked_for_a_second_is_told_once(bench: Bench) -> None:
    """Not before, and not again for the same block."""
    await bench.check_for(1 - TICK)
    assert bench.told() == []
    await bench.check_for(60)
    assert bench.told() == [1.0]


async def test_the_stack_names_what_blocks(bench: Bench) -> None:
    """It is the one of the thread that is watched, not of the one that looks."""
    await bench.check_for(1)
    (told,) = bench.recorder.of(LoopBlocked)
    assert "in hog" in told.stack
    assert "in check" not in told.stack


async def test_the_next_block_is_told_again(bench: Bench) -> None:
    """Once the loop has turned, it is another one, counted from its own beginning."""
    await bench.check_for(5)
    await bench.watch.tick()
    await bench.check_for(1)
    assert bench.told() == [1.0]
    await bench.check_for(1)
    assert bench.told() == [1.0, 1.0]


async def test_a_loop_that_stays_blocked_is_ended(bench: Bench) -> None:
    """After `stuck_after`; the process has no other way out."""
    await bench.check_for(STUCK_AFTER - TICK)
    assert bench.ended == []
    await bench.check_for(TICK)
    assert bench.ended == ["the event loop has been blocked for 300 s"]


async def test_a_loop_that_turns_now_and_then_is_not_ended(bench: Bench) -> None:
    """Each turn starts the count again."""
    for _ in range(3):
        await bench.check_for(STUCK_AFTER - 1)
        await bench.watch.tick()
    assert bench.ended == []


async def test_a_pause_of_the_whole_process_is_no_fault_of_the_loops(bench: Bench) -> None:
    """While both stood still nobody looked: it counts for two ticks at most."""
    await bench.check_for(3600, every=3600)
    assert (bench.told(), bench.ended) == ([], [])
    await bench.check_for(2 * TICK)
    assert bench.told() == [4 * TICK]


def test_a_thread_that_has_ended_has_no_stack(bench: Bench) -> None:
    """It may end while it is asked for."""
    bench.let_go()
    assert stack_of(bench.thread.ident or 0) == ""


def test_all_stacks_are_named_and_the_main_one_is_last(bench: Bench) -> None:
    """Logs cut long texts at their beginning, and the main thread has the loop."""
    stacks = dict(re.findall(r"^Thread (.+):\n((?: .*\n?)*)", all_stacks(), re.MULTILINE))
    assert list(stacks)[-1] == threading.main_thread().name
    assert "in all_stacks" in stacks[threading.main_thread().name]
    assert "in hog" in stacks[bench.thread.name]


def test_an_end_is_told_before_it_comes(bench: Bench) -> None:
    """With the reason and all stacks: afterwards nobody can tell anything."""
    happened: list[object] = []
    with_report(Events(happened.append), happened.append)("the loop is stuck")
    told, ended = happened
    assert isinstance(told, ProcessEnding)
    assert told.reason == ended == "the loop is stuck"
    assert "Thread watched:" in told.stacks
    assert bench.ended == []


def test_an_end_comes_though_nobody_can_be_told() -> None:
    """A listener that fails does not keep the process from ending."""

    def fail(_event: object) -> None:
        raise ValueError("no disk")

    ended: list[str] = []
    with_report(Events(fail), ended.append)("the loop is stuck")
    assert ended == ["the loop is stuck"]


def test_an_end_comes_though_the_report_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a log on a pipe does that nobody reads."""
    monkeypatch.setattr("streamer_worker.fleet.loop_watchdog._REPORT_TIMEOUT", 0.01)
    read = threading.Event()
    ended: list[str] = []

    def block(_event: object) -> None:
        read.wait(PATIENCE)

    with_report(Events(block), ended.append)("the loop is stuck")
    assert ended == ["the loop is stuck"]
    read.set()


async def test_each_check_renews_the_watchdog_of_the_interpreter() -> None:
    """It is stopped with the watch, so that nothing ends a worker that has ended."""
    calls: list[str] = []

    class Watchdog(InterpreterWatchdog):
        def renew(self) -> None:
            calls.append("renew")

        def stop(self) -> None:
            calls.append("stop")

    watch = LoopWatch(
        stuck_after=5,
        events=Events(),
        clock=ManualClock(),
        end_process=calls.append,
        watchdog=Watchdog(seconds=5, descriptor=2),
    )
    await watch.check()
    await watch.check()
    watch.stop()
    assert calls == ["renew", "renew", "stop"]
