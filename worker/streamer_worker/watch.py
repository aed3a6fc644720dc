"""Whether the event loop turns, seen from another thread."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Final

from streamer_store import Clock
from streamer_worker.events import Events, LoopBlocked, LoopTurned, ProcessEnding

TICK: Final = 0.25
_BLOCKED_AFTER: Final = 1.0

# Ends the process at once, for the reason given.
End = Callable[[str], None]


class LoopWatch:
    """Made on the thread that it watches. `turn` is called there, `check` on another."""

    def __init__(self, *, stuck_after: float, events: Events, clock: Clock, end: End) -> None:
        self._thread = threading.get_ident()
        self._stuck_after = stuck_after
        self._events = events
        self._clock = clock
        self._end = end
        self._turns = 0
        self._turned: float | None = None
        self._seen = 0
        self._checked = clock.steady()
        self._blocked = 0.0
        self._told = False

    async def turn(self) -> None:
        now = self._clock.steady()
        if self._turned is not None:
            self._events.emit(LoopTurned(lag=max(0.0, now - self._turned - TICK)))
        self._turned = now
        self._turns += 1

    async def check(self) -> None:
        """Count how long the loop has stood still, while we looked; tell it, or end it all."""
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


def stack_of(thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001  the documented way to another's stack
    return "" if frame is None else "".join(traceback.format_stack(frame))


def all_stacks() -> str:
    """Return the stacks of all threads, the main one's at the end, where logs do not cut."""
    threads = sorted(threading.enumerate(), key=lambda each: each is threading.main_thread())
    return "\n".join(f"Thread {each.name}:\n{stack_of(each.ident or 0)}" for each in threads)


def telling(events: Events, end: End) -> End:
    """Return an `end` that first tells the reason, with the stacks of all threads."""

    def tell(reason: str) -> None:
        events.emit(ProcessEnding(reason=reason, stacks=all_stacks()))
        end(reason)

    return tell
