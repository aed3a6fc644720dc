"""Pause one worker's tasks on an event loop that all workers share, as SIGSTOP pauses a process.

Meanwhile its timers expire and its answers arrive. The worker sees them when it continues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import trio
from trio.lowlevel import Task

# The worker of a task. A task inherits it from the task that starts it.
WORKER: ContextVar[str] = ContextVar("WORKER", default="")


class RunQueue(deque[Task]):
    """Trio's queue of runnable tasks, without those of paused workers."""

    def __init__(self, tasks: deque[Task]) -> None:
        super().__init__(tasks)
        self.paused: set[str] = set()

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __iter__(self) -> Iterator[Task]:
        if not self.paused:
            return super().__iter__()
        return (task for task in super().__iter__() if not self._is_paused(task))

    def clear(self) -> None:
        held = [task for task in super().__iter__() if self._is_paused(task)]
        super().clear()
        self.extend(held)

    def _is_paused(self, task: Task) -> bool:
        return task.context.get(WORKER, "") in self.paused


def install() -> RunQueue:
    """Replace the queue of the running trio loop, and return the new one."""
    runner: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner
    runner.runq = queue = RunQueue(runner.runq)
    return queue
