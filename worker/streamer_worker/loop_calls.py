"""Calls of functions that belong to the event loop, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from anyio import from_thread
from anyio.lowlevel import EventLoopToken


class LoopCalls:
    """Calls functions on the event loop's thread. Create it there, and call it from any thread."""

    def __init__(self, token: EventLoopToken) -> None:
        self.token = token
        self._thread = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the event loop's."""
        return threading.get_ident() == self._thread

    def __call__(self, function: Callable[[], object]) -> None:
        """Call the function. From another thread, this waits until the event loop has called it."""
        if self.is_here:
            function()
        else:
            from_thread.run_sync(function, token=self.token)
