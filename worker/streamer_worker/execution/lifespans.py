"""Keeping open what groups of handlers share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from streamer_worker.concurrency.shutdown import then_cancel
from streamer_worker.errors import LifespanError
from streamer_worker.events import Events, LifespanFailed
from streamer_worker.handlers.definition import Handler, HandlerGroup
from streamer_worker.sanitize import message_of

LEAVING: Final = 5.0
CANCELLING: Final = 1.0


class _Span:
    """One group's lifespan, entered and left in a task of its own."""

    def __init__(
        self, group: HandlerGroup[Any], *, actions: str, report: Callable[[_Span], None]
    ) -> None:
        self.leave = anyio.Event()
        self.left = anyio.Event()
        self.actions = actions
        self.error: Exception | None = None
        self._group = group
        self._tell = report

    async def run(self, *, task_status: TaskStatus[Any]) -> None:
        entered = False
        assert self._group.lifespan is not None  # noqa: S101  only those are here
        try:
            async with self._group.lifespan() as state:
                entered = True
                task_status.started(state)
                await self.leave.wait()
        except Exception as error:  # noqa: BLE001  it is a plugin's
            self.error = error
            if entered:
                self._tell(self)
            else:
                task_status.started(None)
        finally:
            self.left.set()


class Lifespans:
    """The lifespans of a worker's groups. `on_failed` is called when one breaks while handlers
    may need it, `abandon` when one can be ended by nothing.
    """

    def __init__(
        self, *, on_failed: Callable[[], object], abandon: Callable[[], object], events: Events
    ) -> None:
        self._on_failed = on_failed
        self._abandon = abandon
        self._events = events
        self._spans: list[_Span] = []
        self._broken: list[_Span] = []

    @asynccontextmanager
    async def open(
        self, handlers: Iterable[Handler], *, unless: anyio.Event
    ) -> AsyncIterator[Mapping[HandlerGroup[Any], Any] | None]:
        """Enter the lifespan of each group, and give what they gave, by group; None when
        `unless` was set before all were entered.

        They are left in reverse order, all within five seconds. Raises LifespanError when one
        cannot be entered, or has broken meanwhile.
        """
        async with anyio.create_task_group() as tasks:
            try:
                yield await self._enter(_grouped(handlers), tasks, unless)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._leave(tasks.cancel_scope)
        if self._broken:
            raise _told("the lifespan of a group has failed:", self._broken)

    async def _enter(
        self, groups: Mapping[HandlerGroup[Any], str], tasks: TaskGroup, unless: anyio.Event
    ) -> Mapping[HandlerGroup[Any], Any] | None:
        states: dict[HandlerGroup[Any], Any] = {}
        with anyio.CancelScope() as entering:
            tasks.start_soon(then_cancel, unless, entering)
            for group, actions in groups.items():
                span = _Span(group, actions=actions, report=self._tell)
                states[group] = await tasks.start(span.run)
                if span.error is not None:
                    raise _told("the lifespan of a group cannot be entered:", [span])
                self._spans.append(span)
        return None if entering.cancelled_caught else states

    def _tell(self, span: _Span) -> None:
        assert span.error is not None  # noqa: S101
        self._events.emit(LifespanFailed(actions=span.actions, error=span.error))
        if not span.leave.is_set():
            self._broken.append(span)
            self._on_failed()

    async def _leave(self, scope: anyio.CancelScope) -> None:
        with anyio.move_on_after(LEAVING):
            for span in reversed(self._spans):
                span.leave.set()
                await span.left.wait()
        late = [span for span in self._spans if not span.left.is_set()]
        for span in late:
            error = TimeoutError(f"it was not left within {LEAVING:g} s")
            self._events.emit(LifespanFailed(actions=span.actions, error=error))
        scope.cancel()
        with anyio.move_on_after(CANCELLING) as cancelling:
            for span in late:
                await span.left.wait()
        if cancelling.cancelled_caught:
            self._abandon()


def _grouped(handlers: Iterable[Handler]) -> dict[HandlerGroup[Any], str]:
    found: dict[HandlerGroup[Any], list[str]] = {}
    for each in handlers:
        if each.group is not None and each.group.lifespan is not None:
            found.setdefault(each.group, []).append(each.action)
    return {group: ", ".join(sorted(actions)) for group, actions in found.items()}


def _told(headline: str, spans: list[_Span]) -> LifespanError:
    return LifespanError(headline, [f"group of {each.actions}: {_text(each)}" for each in spans])


def _text(span: _Span) -> str:
    error = span.error
    return "" if error is None else f"{type(error).__name__}: {message_of(error)}"
