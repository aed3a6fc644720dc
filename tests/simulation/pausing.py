"""Pause one worker's tasks on an event loop that all workers share, as SIGSTOP pauses a process.

Meanwhile its timers expire and its answers arrive. The worker sees them when it continues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final

import trio
from trio.lowlevel import Task

# The worker of a task. A task inherits it from the task that starts it.
WORKER: ContextVar[str] = ContextVar("WORKER", default="")

_MAX_ROUNDS: Final = 20_000


class Stalled(BaseException):
    """A task runs again and again while the virtual time stands still."""


class RunQueue(deque[Task]):
    """Trio's queue of runnable tasks, without those of paused workers.

    If the virtual time stands still for 20,000 to 40,000 rounds of the loop, Stalled is raised in
    all tasks that can run, and noted in `stalls`.
    """

    def __init__(self, tasks: deque[Task]) -> None:
        super().__init__(tasks)
        self.paused: set[str] = set()
        self.stalls: list[str] = []
        self._rounds = 0
        self._checked_at = -1.0

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __iter__(self) -> Iterator[Task]:
        if not self.paused:
            return super().__iter__()
        return (task for task in super().__iter__() if not self._is_paused(task))

    def clear(self) -> None:
        """Empty the queue. Trio calls it once in each round, after it has copied the tasks."""
        self._rounds += 1
        if self._rounds % _MAX_ROUNDS == 0:
            self._check_time()
        held = [task for task in super().__iter__() if self._is_paused(task)]
        super().clear()
        self.extend(held)

    def _check_time(self) -> None:
        now = trio.current_time()
        if now != self._checked_at:
            self._checked_at = now
            return
        tasks: list[Any] = list(self)
        places = ", ".join(sorted({_place(task) for task in tasks}))
        self.stalls.append(f"no time passes at {now:g} s, and these tasks run: {places}")
        for task in tasks:
            task._next_send_fn, task._next_send = task.coro.throw, Stalled(self.stalls[-1])

    def _is_paused(self, task: Task) -> bool:
        return task.context.get(WORKER, "") in self.paused


def _place(task: Task) -> str:
    """Return the worker of a task, and the functions of it that run, without those of libraries."""
    functions = [
        frame.f_code.co_qualname
        for frame, _ in task.iter_await_frames()
        if not frame.f_globals["__name__"].startswith(("anyio.", "trio."))
    ]
    return f"{task.context.get(WORKER, '')} {' > '.join(functions)}"


def install() -> RunQueue:
    """Replace the queue of the running trio loop, and return the new one."""
    runner: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner
    runner.runq = queue = RunQueue(runner.runq)
    return queue
