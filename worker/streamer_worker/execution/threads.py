"""The threads that plain functions run in.

A library may raise an exception in another thread (PyThreadState_SetAsyncExc), to limit the time
of a call for example, and be late: the handler has returned, and its thread rests or has another
request. anyio's threads end then, and the next call on them never returns.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

# Where anyio keeps the event loop and the scope of a thread's call. There is no public way to
# hand them on to another thread.
from anyio._core._eventloop import threadlocals

Result = TypeVar("Result")

_RESTING: Final = 8
_LOOK_EVERY: Final = 5.0


class HandlerThreads:
    """Runs functions in threads, which are used again. At least `resting` of them rest at any
    time, and the one that has rested longest is next: a late exception finds its thread at rest,
    where it is dropped. All methods are called in threads of anyio, which wait meanwhile.
    """

    def __init__(self, resting: int = _RESTING) -> None:
        self._resting = resting
        self._idle: deque[_HandlerThread] = deque()
        self._taking = threading.Lock()
        weakref.finalize(self, _stop, self._idle)

    def run(self, function: Callable[[], Result]) -> Result:
        """Call the function in a thread, with the context and the event loop of this one.

        Raises what it raises.
        """
        thread = self._take()
        job = _Job(function)
        thread.give(job)
        try:
            while True:
                try:
                    job.ended.get(timeout=_LOOK_EVERY)
                    break
                except queue.Empty:
                    if not thread.is_alive():
                        raise RuntimeError("the thread of the handler has ended") from None
            if job.error is not None:
                raise job.error
            return job.value  # type: ignore[no-any-return]
        finally:
            self._idle.append(thread)
            del job  # an exception and its traceback refer to each other

    def _take(self) -> _HandlerThread:
        with self._taking:
            while len(self._idle) > self._resting:
                thread = self._idle.popleft()
                if thread.is_alive():
                    return thread
        thread = _HandlerThread()
        thread.start()
        return thread


class _Job:
    """One call. `error` is what it ended with, None for `value`."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = RuntimeError("an exception came from another thread")
        self.ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._function = function
        self._context = contextvars.copy_context()
        self._inherited: Mapping[str, Any] = dict(vars(threadlocals))
        self._begun = False

    def run(self) -> None:
        """Call the function, once."""
        if self._begun:
            return
        self._begun = True
        try:
            vars(threadlocals).update(self._inherited)
            self.value = self._context.run(self._function)
            self.error = None
        except BaseException as error:  # noqa: BLE001  it is raised where the call waits
            self.error = error
        finally:
            vars(threadlocals).clear()


class _HandlerThread(threading.Thread):
    """Runs what it is given. An exception from another thread may be raised between any two of its
    steps, so each step can be done again: a job is removed last, and only queues in C are used.
    """

    def __init__(self) -> None:
        super().__init__(name="handler", daemon=True)
        self._jobs: deque[_Job | None] = deque()
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def give(self, job: _Job | None) -> None:
        """Let it run this next; None ends it."""
        self._jobs.append(job)
        self._news.put(None)

    def run(self) -> None:
        while True:
            try:
                self._serve()
            except BaseException:  # noqa: BLE001, S112  it was meant for a call that has ended
                continue
            return

    def _serve(self) -> None:
        while True:
            if not self._jobs:
                self._news.get()
                continue
            job = self._jobs[0]
            if job is None:
                return
            job.run()
            job.ended.put(None)
            del job
            self._jobs.popleft()


def _stop(threads: deque[_HandlerThread]) -> None:
    for thread in list(threads):
        thread.give(None)
