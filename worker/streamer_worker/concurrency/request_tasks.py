"""The tasks of requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Never

import anyio
from anyio.abc import TaskGroup


class RequestTasks:
    """Starts the tasks of requests.

    On asyncio these tasks are not in a task group: anyio needs 15 us of CPU to start a task of a
    group, and asyncio needs 2 us to start a task. A cancellation of `group` does not reach them.

    group: for the tasks that a request's task starts in turn. It gets the errors of all tasks.
    """

    def __init__(self, group: TaskGroup, loop: asyncio.AbstractEventLoop | None) -> None:
        self.group = group
        self._loop = loop
        self._running: set[asyncio.Task[None]] = set()

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: object
    ) -> None:
        """Start a task that awaits `work(*arguments)`, also if the group was cancelled."""
        if self._loop is None:
            self.group.start_soon(work, *arguments)
            return
        task = self._loop.create_task(work(*arguments))
        self._running.add(task)
        task.add_done_callback(self._on_ended)

    async def wait_ended(self) -> None:
        """Wait until the tasks that are not in the group have ended."""
        while self._running:
            await asyncio.wait(self._running)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.group.start_soon(_raise, error)


@asynccontextmanager
async def open_request_tasks() -> AsyncIterator[RequestTasks]:
    """Give RequestTasks. At the end its group is cancelled, and all tasks are awaited.

    Before the end each request has to be interrupted. Raises an exception group of the errors of
    all tasks.
    """
    loop = None
    with suppress(RuntimeError):  # no loop: trio
        loop = asyncio.get_running_loop()
    async with anyio.create_task_group() as group:
        tasks = RequestTasks(group, loop)
        try:
            yield tasks
        finally:
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await tasks.wait_ended()


async def _raise(error: BaseException) -> Never:
    raise error
