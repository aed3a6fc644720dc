"""Watches from another thread whether the event loop is blocked."""

from __future__ import annotations

import faulthandler
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Final

from streamer_worker.concurrency.exits import run_within
from streamer_worker.events import Events, LoopBlocked, LoopLagMeasured, ProcessEnding
from streamer_worker.fleet.blocking_code import blocking_code
from streamer_worker.runtime import Runtime

# The time between two ticks of the loop, and between two checks, in seconds.
TICK: Final = 0.25
# After how long a blocked loop is reported, in seconds.
_BLOCKED_AFTER: Final = 1.0
# How long the report of the process's end may take, in seconds.
_REPORT_TIMEOUT: Final = 2.0

# Ends the process at once, for the reason given. It may be called on any thread.
EndProcess = Callable[[str], None]


class InterpreterWatchdog:
    """Ends the process with code 1 unless `renew` is called every `seconds`.

    Without `renew` no Python thread runs, because an extension holds the interpreter's lock. Only
    a thread in C can notice that. It writes the stacks of all threads to `descriptor` first. A
    process that was paused for that long ends in the same way when it continues.

    Both methods are called on the heartbeat's thread.
    """

    def __init__(self, *, seconds: float, descriptor: int) -> None:
        self._seconds = seconds
        self._descriptor = descriptor

    def renew(self) -> None:
        """Start the countdown again."""
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._descriptor)

    def stop(self) -> None:
        """Stop the countdown."""
        faulthandler.cancel_dump_traceback_later()


class LoopWatch:
    """Reports an event loop that is blocked, and ends the process if it stays blocked.

    Made on the thread of the loop, which calls `tick`. Another thread calls `check` and `stop`.
    `stuck_after`: after how many seconds the process ends. `watchdog` is renewed by each check.

    The threads share one field: `_ticks` is written by the loop's thread and read by the checking
    thread. Every other field that changes is used by one of the two threads only.
    """

    def __init__(
        self,
        *,
        stuck_after: float,
        runtime: Runtime,
        end_process: EndProcess,
        watchdog: InterpreterWatchdog | None = None,
    ) -> None:
        self._thread = threading.get_ident()
        self._stuck_after = stuck_after
        self._events = runtime.events
        self._clock = runtime.clock
        self._end_process = end_process
        self._watchdog = watchdog
        # Written by the loop's thread.
        self._ticks = 0
        self._last_tick: float | None = None
        # Written and read by the checking thread.
        self._ticks_seen = 0
        self._last_check = self._clock.steady()
        self._blocked = 0.0
        self._reported = False

    async def tick(self) -> None:
        """Record that the loop runs, and report by how much this tick is late."""
        now = self._clock.steady()
        if self._last_tick is not None:
            self._events.emit(LoopLagMeasured(lag=max(0.0, now - self._last_tick - TICK)))
        self._last_tick = now
        self._ticks += 1

    async def check(self) -> None:
        """Add up for how long the loop has not ticked. Report it, or end the process.

        A block is reported once. Between two checks at most two ticks are added, because the
        whole process may have been paused, which is not a fault of the loop.
        """
        if self._watchdog is not None:
            self._watchdog.renew()
        now = self._clock.steady()
        passed, self._last_check = min(now - self._last_check, 2 * TICK), now
        if self._ticks != self._ticks_seen:
            self._ticks_seen, self._blocked, self._reported = self._ticks, 0.0, False
            return
        self._blocked += passed
        if self._blocked >= self._stuck_after:
            self._end_process(f"the event loop has been blocked for {self._blocked:.0f} s")
        elif self._blocked >= _BLOCKED_AFTER and not self._reported:
            self._reported = True
            self._report()

    def stop(self) -> None:
        """Stop the watchdog of the interpreter."""
        if self._watchdog is not None:
            self._watchdog.stop()

    def _report(self) -> None:
        code = blocking_code(self._thread)
        self._events.emit(
            LoopBlocked(
                seconds=self._blocked,
                action=code.action,
                request_id=code.request_id,
                stack=code.stack,
            )
        )


def stack_of(thread_id: int) -> str:
    """Return the stack of a thread as text, or "" if the thread has ended."""
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001  the documented way to a stack
    return "" if frame is None else "".join(traceback.format_stack(frame))


def all_stacks() -> str:
    """Return the stacks of all threads. The main thread is last, where logs are not cut."""
    threads = sorted(threading.enumerate(), key=lambda thread: thread is threading.main_thread())
    return "\n".join(f"Thread {thread.name}:\n{stack_of(thread.ident or 0)}" for thread in threads)


def with_report(events: Events, end_process: EndProcess) -> EndProcess:
    """Return an `end_process` that first emits ProcessEnding, with the stacks of all threads.

    It also ends the process if the report fails, or blocks for 2 s, as a full pipe does.
    """

    def report_and_end(reason: str) -> None:
        try:
            ending = ProcessEnding(reason=reason, stacks=all_stacks())
            run_within(_REPORT_TIMEOUT, partial(events.emit, ending))
        finally:
            end_process(reason)

    return report_and_end
