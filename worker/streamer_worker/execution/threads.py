"""The threads that plain functions run in.

A library may raise an exception in another thread (PyThreadState_SetAsyncExc), for example to
limit the time of a call. It may come late: the handler has returned, and its thread is idle or
runs another request. anyio's threads end then, and the next call on them never returns. The
threads here survive it.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

# anyio keeps the event loop and the cancel scope of a thread's call here. There is no public way
# to pass them to another thread.
from anyio._core._eventloop import threadlocals

Result = TypeVar("Result")

_MIN_IDLE: Final = 8
_ALIVE_CHECK_INTERVAL: Final = 5.0


class HandlerThreads:
    """Runs functions in threads that are reused.

    At least `min_idle` threads are left idle, and the one that has been idle longest is used
    next. So a late exception usually finds its thread idle, where it is dropped. Call the
    methods in anyio's worker threads, which wait for the function.
    """

    def __init__(self, min_idle: int = _MIN_IDLE) -> None:
        self._min_idle = min_idle
        self._idle: deque[_HandlerThread] = deque()
        self._take_lock = threading.Lock()
        weakref.finalize(self, _stop, self._idle)

    def run(self, function: Callable[[], Result]) -> Result:
        """Call the function in another thread and return its result. The function has the context
        variables and the event loop of the calling thread.

        Raises what the function raises, and RuntimeError when the other thread has ended.
        """
        thread = self._take()
        job = _Job(function)
        thread.put(job)
        try:
            while True:
                try:
                    job.done.get(timeout=_ALIVE_CHECK_INTERVAL)
                    break
                except queue.Empty:
                    if not thread.is_alive():
                        raise RuntimeError("the thread of the handler has ended") from None
            return job.take_result()  # type: ignore[no-any-return]
        finally:
            self._idle.append(thread)

    def _take(self) -> _HandlerThread:
        with self._take_lock:
            while len(self._idle) > self._min_idle:
                thread = self._idle.popleft()
                if thread.is_alive():
                    return thread
        thread = _HandlerThread()
        thread.start()
        return thread


class _Job:
    """One call. `error` is what it raised; if it is None, `value` is the result. The thread that
    runs it writes both before it puts an item into `done`; the caller reads them after that.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = RuntimeError("an exception came from another thread")
        self.done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._function = function
        self._context = contextvars.copy_context()
        self._inherited: Mapping[str, Any] = dict(vars(threadlocals))
        self._started = False

    def take_result(self) -> Any:
        """Return the result or raise the exception, and forget it. The thread that ran the job may
        keep the job for a while.
        """
        value, error = self.value, self.error
        self.value = self.error = None
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error  # its traceback refers to this frame

    def run(self) -> None:
        """Call the function, unless that was done before."""
        if self._started:
            return
        self._started = True
        try:
            vars(threadlocals).update(self._inherited)
            self.value = self._context.run(self._function)
            self.error = None
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits
            self.error = error
        finally:
            vars(threadlocals).clear()


class _HandlerThread(threading.Thread):
    """Runs jobs, one after the other.

    An exception from another thread may be raised between any two steps, so each step can be
    repeated: a job is removed from the queue last, and all queues are implemented in C.
    """

    def __init__(self) -> None:
        super().__init__(name="handler", daemon=True)
        self._jobs: deque[_Job | None] = deque()
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()

    def put(self, job: _Job | None) -> None:
        """Queue a job; None ends the thread. Any thread."""
        self._jobs.append(job)
        self._wakeups.put(None)

    def run(self) -> None:
        while True:
            try:
                self._serve()
            except BaseException:  # noqa: BLE001, S112  raised for a call that has ended
                continue
            return

    def _serve(self) -> None:
        while True:
            if not self._jobs:
                self._wakeups.get()
                continue
            job = self._jobs[0]
            if job is None:
                return
            job.run()
            job.done.put(None)
            del job
            self._jobs.popleft()


def _stop(threads: deque[_HandlerThread]) -> None:
    for thread in list(threads):
        thread.put(None)
