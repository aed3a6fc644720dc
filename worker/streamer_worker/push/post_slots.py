"""Limits how many posts run at the same time. Urgent ones go first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import anyio


class PostSlots:
    """A limiter with two queues: a slot that is freed goes to the oldest urgent waiter, if any.

    So an outcome waits for the end of one post, and not behind thousands of other messages. A
    key waits once at a time. Not thread-safe.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._urgent: dict[Hashable, anyio.Event] = {}
        self._others: dict[Hashable, anyio.Event] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable, *, urgent: bool) -> AsyncIterator[None]:
        """Hold a slot while the context is open."""
        await self._acquire(key, urgent=urgent)
        try:
            yield
        finally:
            self._release()

    def make_urgent(self, key: Hashable) -> None:
        """Let this key go before those that are not urgent. No effect unless it waits."""
        waiting = self._others.pop(key, None)
        if waiting is not None:
            self._urgent[key] = waiting

    async def _acquire(self, key: Hashable, *, urgent: bool) -> None:
        if self._free:
            self._free -= 1
            return
        granted = anyio.Event()
        (self._urgent if urgent else self._others)[key] = granted
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self._release()
            self._urgent.pop(key, None)
            self._others.pop(key, None)
            raise

    def _release(self) -> None:
        waiting = self._urgent or self._others
        if waiting:
            waiting.pop(next(iter(waiting))).set()
        else:
            self._free += 1
