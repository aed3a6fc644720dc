"""Limits posts to a number per second."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class Pace:
    """Gives each post a time, 1 / `rate` seconds after the one before.

    A quiet time allows no burst. rate: posts per second. Not thread-safe.
    """

    def __init__(self, rate: float, steady: Callable[[], float]) -> None:
        self._interval = 1 / rate
        self._steady = steady
        self._next = steady()

    async def wait(self, urgent: anyio.Event) -> None:
        """Wait for the time of one more post, or until `urgent` is set."""
        now = self._steady()
        allowed_at = max(now, self._next)
        self._next = allowed_at + self._interval
        with anyio.move_on_after(allowed_at - now):
            await urgent.wait()
