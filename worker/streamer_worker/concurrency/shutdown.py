"""The request to shut down, and helpers that wait for events."""

from __future__ import annotations

import anyio


class Shutdown:
    """A shutdown request. Used on the worker's event loop alone.

    1. `request()` comes from the fleet: an operator drains this worker.
    2. `signal()` comes from the supervisor, at each signal. The second one skips waiting for
       handlers.

    requested: set when the worker must stop.
    forced: set when it must not wait for handlers.
    """

    def __init__(self) -> None:
        self.requested = anyio.Event()
        self.forced = anyio.Event()
        self._signalled = False

    def request(self) -> None:
        """Request a shutdown that waits for handlers."""
        self.requested.set()

    def signal(self) -> None:
        """Request a shutdown, and force it at the second call."""
        if self._signalled:
            self.forced.set()
        self._signalled = True
        self.requested.set()


async def first_of(*events: anyio.Event) -> None:
    """Wait until one of the events is set."""
    async with anyio.create_task_group() as tasks:
        for event in events:
            tasks.start_soon(then_cancel, event, tasks.cancel_scope)


async def then_cancel(event: anyio.Event, scope: anyio.CancelScope) -> None:
    """Wait for an event, then cancel a scope."""
    await event.wait()
    scope.cancel()
