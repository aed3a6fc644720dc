"""Wakes tasks at each change of an object's state."""

from __future__ import annotations

import anyio


class Changes:
    """The changes of an object's state, for tasks that wait until it meets a condition.

    Use it on one event loop's thread only.
    """

    def __init__(self) -> None:
        self._next: anyio.Event | None = None

    @property
    def next(self) -> anyio.Event:
        """The event that the next `notify` sets. A task that reads the state with `await` keeps
        this event before it reads, so that it misses no change.
        """
        if self._next is None:
            self._next = anyio.Event()
        return self._next

    def notify(self) -> None:
        """Wake all tasks that wait now. Tasks that wait later wait for the next call."""
        changed, self._next = self._next, None
        if changed is not None:
            changed.set()

    async def wait(self) -> None:
        """Wait for the next call of `notify`."""
        await self.next.wait()
