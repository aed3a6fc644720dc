"""The order to end, and waiting for it."""

from __future__ import annotations

import anyio


class Shutdown:
    """The end, once somebody wants it: the fleet by an order, or a supervisor by a signal. Of
    signals the second one means that no handler is waited for.
    """

    def __init__(self) -> None:
        self.requested = anyio.Event()
        self.forced = anyio.Event()
        self._signalled = False

    def request(self) -> None:
        self.requested.set()

    def signal(self) -> None:
        if self._signalled:
            self.forced.set()
        self._signalled = True
        self.requested.set()


async def first_of(*events: anyio.Event) -> None:
    async with anyio.create_task_group() as tasks:
        for event in events:
            tasks.start_soon(then_cancel, event, tasks.cancel_scope)


async def then_cancel(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
