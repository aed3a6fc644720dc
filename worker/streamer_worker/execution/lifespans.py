"""Keeps the lifespans of handler groups open while the worker runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from streamer_worker.concurrency.deadlines import ended_within
from streamer_worker.concurrency.shutdown import then_cancel
from streamer_worker.errors import LifespanError
from streamer_worker.events import Events, LifespanFailed
from streamer_worker.handlers.definition import Handler, HandlerGroup
from streamer_worker.sanitize import named_message

# Seconds for all lifespans to be left, and then for cancelled ones to end.
EXIT_TIMEOUT: Final = 5.0
CANCEL_TIMEOUT: Final = 1.0


class _OpenLifespan:
    """One group's lifespan, which is entered and left in the same task.

    Set `leave` to have it left. `left` is set after its end, and `error` is what it raised.
    """

    def __init__(
        self, group: HandlerGroup[Any], *, actions: str, report: Callable[[_OpenLifespan], None]
    ) -> None:
        self.leave = anyio.Event()
        self.left = anyio.Event()
        self.actions = actions
        self.error: Exception | None = None
        self._group = group
        self._report = report

    async def run(self, *, task_status: TaskStatus[Any]) -> None:
        """Enter the lifespan, start with its value, and leave it once `leave` is set.

        An error before the start starts with None, and one after it is reported.
        """
        entered = False
        assert self._group.lifespan is not None  # noqa: S101  only those are here
        try:
            async with self._group.lifespan() as state:
                entered = True
                task_status.started(state)
                await self.leave.wait()
        except Exception as error:  # noqa: BLE001  a plugin's code may raise anything
            self.error = error
            if entered:
                self._report(self)
            else:
                task_status.started(None)
        finally:
            self.left.set()


class Lifespans:
    """The lifespans of a worker's groups. Event loop's thread only.

    `on_failed` is called when a lifespan fails while handlers may use it. `abandon` is called
    when a lifespan does not end, even after cancellation.
    """

    def __init__(
        self, *, on_failed: Callable[[], object], abandon: Callable[[], object], events: Events
    ) -> None:
        self._on_failed = on_failed
        self._abandon = abandon
        self._events = events
        self._lifespans: list[_OpenLifespan] = []
        self._failed: list[_OpenLifespan] = []

    @asynccontextmanager
    async def open(
        self, handlers: Iterable[Handler], *, unless: anyio.Event
    ) -> AsyncIterator[Mapping[HandlerGroup[Any], Any] | None]:
        """Enter the lifespan of each group, and give the values that they yielded, by group;
        None when `unless` was set before all were entered.

        They are left in reverse order, all together within EXIT_TIMEOUT. Raises LifespanError,
        inside an ExceptionGroup, when one cannot be entered, and LifespanError when one has
        failed later.
        """
        async with anyio.create_task_group() as tasks:
            try:
                yield await self._enter(_grouped(handlers), tasks, unless)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._leave(tasks.cancel_scope)
        if self._failed:
            raise _lifespan_error("the lifespan of a group has failed:", self._failed)

    async def _enter(
        self, groups: Mapping[HandlerGroup[Any], str], tasks: TaskGroup, unless: anyio.Event
    ) -> Mapping[HandlerGroup[Any], Any] | None:
        states: dict[HandlerGroup[Any], Any] = {}
        with anyio.CancelScope() as entering:
            tasks.start_soon(then_cancel, unless, entering)
            for group, actions in groups.items():
                lifespan = _OpenLifespan(group, actions=actions, report=self._report_failed)
                states[group] = await tasks.start(lifespan.run)
                if lifespan.error is not None:
                    raise _lifespan_error("the lifespan of a group cannot be entered:", [lifespan])
                self._lifespans.append(lifespan)
        return None if entering.cancelled_caught else states

    def _report_failed(self, lifespan: _OpenLifespan) -> None:
        assert lifespan.error is not None  # noqa: S101
        self._events.emit(LifespanFailed(actions=lifespan.actions, error=lifespan.error))
        if not lifespan.leave.is_set():
            self._failed.append(lifespan)
            self._on_failed()

    async def _leave(self, scope: anyio.CancelScope) -> None:
        async def leave_each() -> None:
            for lifespan in reversed(self._lifespans):
                lifespan.leave.set()
                await lifespan.left.wait()

        await ended_within(EXIT_TIMEOUT, leave_each)
        late = [lifespan for lifespan in self._lifespans if not lifespan.left.is_set()]
        for lifespan in late:
            error = TimeoutError(f"it was not left within {EXIT_TIMEOUT:g} s")
            self._events.emit(LifespanFailed(actions=lifespan.actions, error=error))
        scope.cancel()

        async def all_left() -> None:
            for lifespan in late:
                await lifespan.left.wait()

        if not await ended_within(CANCEL_TIMEOUT, all_left):
            self._abandon()


def _grouped(handlers: Iterable[Handler]) -> dict[HandlerGroup[Any], str]:
    """Return the groups that have a lifespan, with their actions as text."""
    groups: dict[HandlerGroup[Any], list[str]] = {}
    for handler in handlers:
        if handler.group is not None and handler.group.lifespan is not None:
            groups.setdefault(handler.group, []).append(handler.action)
    return {group: ", ".join(sorted(actions)) for group, actions in groups.items()}


def _lifespan_error(headline: str, lifespans: list[_OpenLifespan]) -> LifespanError:
    faults = [
        f"group of {lifespan.actions}: {named_message(lifespan.error)}"
        for lifespan in lifespans
        if lifespan.error is not None
    ]
    return LifespanError(headline, faults)
