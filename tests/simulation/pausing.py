"""Pausing one worker's tasks on a loop that all share, as SIGSTOP does to a process.

Its timers expire meanwhile, answers arrive, and all of that is met when it goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import trio
from trio.lowlevel import Task

# Whose task this is; tasks inherit it from the one that starts them.
WORKER: ContextVar[str] = ContextVar("WORKER", default="")


class RunQueue(deque[Task]):
    """Trio's queue of tasks to run, which holds back those of paused workers."""

    def __init__(self, tasks: deque[Task]) -> None:
        super().__init__(tasks)
        self.paused: set[str] = set()

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __iter__(self) -> Iterator[Task]:
        if not self.paused:
            return super().__iter__()
        return (task for task in super().__iter__() if not self._holds(task))

    def clear(self) -> None:
        held = [task for task in super().__iter__() if self._holds(task)]
        super().clear()
        self.extend(held)

    def _holds(self, task: Task) -> bool:
        return task.context.get(WORKER, "") in self.paused


def install() -> RunQueue:
    """Give the running trio loop such a queue."""
    runner: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner
    runner.runq = queue = RunQueue(runner.runq)
    return queue
