"""Wakes tasks at each change of an object's state."""

from __future__ import annotations

import anyio


class Changes:
    """The changes of an object's state, for tasks that wait until it meets a condition.

    next: set by the next `notify`. A task that reads the state with `await` keeps this event
        before it reads, so that it misses no change.

    Use it on one event loop's thread only.
    """

    def __init__(self) -> None:
        self.next = anyio.Event()

    def notify(self) -> None:
        """Wake all tasks that wait now. Tasks that wait later wait for the next call."""
        changed, self.next = self.next, anyio.Event()
        changed.set()

    async def wait(self) -> None:
        """Wait for the next call of `notify`."""
        await self.next.wait()
