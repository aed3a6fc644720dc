"""What a worker has at once: the count that limits it, and its memory of what it holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import anyio

from streamer_store import Claim
from streamer_worker.events import Events, SlotsChanged

Key = TypeVar("Key")


@dataclass(slots=True, eq=False)
class Slot:
    """One request, from the sending of its claim. `held`: until it is settled."""

    request_id: str
    action: str | None
    tenant_id: str | None
    held: bool = True


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claim on its way from the poller to the dispatcher, with its slot."""

    claim: Claim
    slot: Slot


class Slots:
    """Counts slots, from the sending of a claim until the request is settled, or until the
    thread of a synchronous handler ends.
    """

    def __init__(self, total: int, *, events: Events) -> None:
        self.total = total
        self._taken: set[Slot] = set()
        self._held: Counter[str] = Counter()
        self._actions: Counter[str | None] = Counter()
        self._tenants: Counter[str | None] = Counter()
        self._events = events
        self._changed = anyio.Event()
        self._tell()

    @property
    def used(self) -> int:
        return len(self._taken)

    @property
    def free(self) -> int:
        return self.total - self.used

    @property
    def held(self) -> int:
        """How many requests are not settled yet."""
        return self._held.total()

    def of_action(self, action: str | None) -> int:
        return self._actions[action]

    def of_tenant(self, tenant_id: str | None) -> int:
        return self._tenants[tenant_id]

    def holds(self, request_id: str) -> bool:
        """Whether this worker may have a claim on the request."""
        return self._held[request_id] > 0

    def take(
        self, request_id: str, *, action: str | None = None, tenant_id: str | None = None
    ) -> Slot:
        slot = Slot(request_id, action, tenant_id)
        self._taken.add(slot)
        self._held[request_id] += 1
        self._actions[action] += 1
        self._tenants[tenant_id] += 1
        self._tell()
        return slot

    def settle(self, slot: Slot) -> None:
        """Forget the request; its slot is not free yet."""
        if slot.held:
            slot.held = False
            _less(self._held, slot.request_id)
            self._tell()

    def give(self, slot: Slot) -> None:
        """Free the slot, and forget its request."""
        self.settle(slot)
        if slot in self._taken:
            self._taken.remove(slot)
            _less(self._actions, slot.action)
            _less(self._tenants, slot.tenant_id)
            self._tell()

    async def wait_free(self) -> None:
        while self.free <= 0:
            await self._changed.wait()

    async def wait_settled(self) -> None:
        """Wait until this worker holds no request."""
        while self.held:
            await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        self._events.emit(SlotsChanged(used=self.used, total=self.total))


def _less(counter: Counter[Key], key: Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
