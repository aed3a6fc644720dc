"""How many requests a worker has at once."""

from __future__ import annotations

import anyio

from streamer_worker.events import Events, SlotsChanged


class Slots:
    """Counts slots, from the sending of a claim until the request is settled."""

    def __init__(self, total: int, *, events: Events) -> None:
        self.total = total
        self.used = 0
        self._events = events
        self._changed = anyio.Event()
        self._tell()

    @property
    def free(self) -> int:
        return self.total - self.used

    def take(self) -> None:
        self._set(self.used + 1)

    def give(self) -> None:
        self._set(self.used - 1)

    async def wait_free(self) -> None:
        while self.free <= 0:
            await self._changed.wait()

    async def wait_idle(self) -> None:
        while self.used:
            await self._changed.wait()

    def _set(self, used: int) -> None:
        self.used = used
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        self._tell()

    def _tell(self) -> None:
        self._events.emit(SlotsChanged(used=self.used, total=self.total))
