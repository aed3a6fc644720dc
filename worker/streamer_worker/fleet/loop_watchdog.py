"""Whether the event loop turns, seen from another thread."""

from __future__ import annotations

import faulthandler
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Final

from streamer_store import Clock
from streamer_worker.concurrency.exits import run_within
from streamer_worker.events import Events, LoopBlocked, LoopLagMeasured, ProcessEnding

TICK: Final = 0.25
_BLOCKED_AFTER: Final = 1.0
_REPORTS_WITHIN: Final = 2.0

# Ends the process at once, for the reason given.
End = Callable[[str], None]


class InterpreterWatchdog:
    """Ends the process with code 1 if `renew` is not called for `seconds`: no thread of Python
    runs, because an extension holds the interpreter's lock. Nothing but a thread of C can do
    that; it writes the stacks of all threads to `descriptor`. A process that was paused for so
    long ends in the same way when it goes on.
    """

    def __init__(self, *, seconds: float, descriptor: int) -> None:
        self._seconds = seconds
        self._descriptor = descriptor

    def renew(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._descriptor)

    def stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()


class LoopWatch:
    """Made on the thread that it watches. `turn` is called there, `check` on another, which also
    renews the watchdog of the interpreter.
    """

    def __init__(
        self,
        *,
        stuck_after: float,
        events: Events,
        clock: Clock,
        end: End,
        watchdog: InterpreterWatchdog | None = None,
    ) -> None:
        self._thread = threading.get_ident()
        self._stuck_after = stuck_after
        self._events = events
        self._clock = clock
        self._end = end
        self._watchdog = watchdog
        self._turns = 0
        self._turned: float | None = None
        self._seen = 0
        self._checked = clock.steady()
        self._blocked = 0.0
        self._told = False

    async def turn(self) -> None:
        now = self._clock.steady()
        if self._turned is not None:
            self._events.emit(LoopLagMeasured(lag=max(0.0, now - self._turned - TICK)))
        self._turned = now
        self._turns += 1

    async def check(self) -> None:
        """Count how long the loop has stood still, while we looked; tell it, or end it all."""
        if self._watchdog is not None:
            self._watchdog.renew()
        now = self._clock.steady()
        # A pause of the whole process is no fault of the loop's.
        passed, self._checked = min(now - self._checked, 2 * TICK), now
        if self._turns != self._seen:
            self._seen, self._blocked, self._told = self._turns, 0.0, False
            return
        self._blocked += passed
        if self._blocked >= self._stuck_after:
            self._end(f"the event loop has not turned for {self._blocked:.0f} s")
        elif self._blocked >= _BLOCKED_AFTER and not self._told:
            self._told = True
            self._events.emit(LoopBlocked(seconds=self._blocked, stack=stack_of(self._thread)))

    def stop(self) -> None:
        """Stop the watchdog of the interpreter."""
        if self._watchdog is not None:
            self._watchdog.stop()


def stack_of(thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001  the documented way to another's stack
    return "" if frame is None else "".join(traceback.format_stack(frame))


def all_stacks() -> str:
    """Return the stacks of all threads, the main one's at the end, where logs do not cut."""
    threads = sorted(threading.enumerate(), key=lambda each: each is threading.main_thread())
    return "\n".join(f"Thread {each.name}:\n{stack_of(each.ident or 0)}" for each in threads)


def telling(events: Events, end: End) -> End:
    """Return an `end` that first reports the reason, with the stacks of all threads.

    It ends the process also when the report blocks, as a full pipe does, or fails.
    """

    def tell(reason: str) -> None:
        try:
            ending = ProcessEnding(reason=reason, stacks=all_stacks())
            run_within(_REPORTS_WITHIN, partial(events.emit, ending))
        finally:
            end(reason)

    return tell
