"""The slots of a worker: they limit how many requests it runs, and record which it holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

from streamer_store import Claim
from streamer_worker.changes import Changes
from streamer_worker.events import Events, SlotsChanged

Key = TypeVar("Key")


@dataclass(slots=True, eq=False)
class Slot:
    """One request, from the moment its claim is sent. `held`: the request is not settled yet."""

    request_id: str
    action: str | None
    tenant_id: str | None
    held: bool = True


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claim that the claimer hands to the dispatcher, with its slot."""

    claim: Claim
    slot: Slot


class Slots:
    """Counts the slots in use, by action and by tenant.

    A slot is in use from the moment a claim is sent until the request is settled. The slot of a
    synchronous handler stays in use until the handler's thread ends.
    """

    def __init__(self, total: int, *, events: Events) -> None:
        self.total = total
        self._used: set[Slot] = set()
        self._held: Counter[str] = Counter()
        self._actions: Counter[str | None] = Counter()
        self._tenants: Counter[str | None] = Counter()
        self._events = events
        self._changes = Changes()
        self._notify()

    @property
    def used(self) -> int:
        """How many slots are in use. May be read on any thread."""
        return len(self._used)

    @property
    def free(self) -> int:
        """How many more slots can be taken."""
        return self.total - self.used

    @property
    def held(self) -> int:
        """How many requests are not settled yet."""
        return self._held.total()

    def of_action(self, action: str | None) -> int:
        """Return how many slots the action uses."""
        return self._actions[action]

    def of_tenant(self, tenant_id: str | None) -> int:
        """Return how many slots the tenant uses."""
        return self._tenants[tenant_id]

    def holds(self, request_id: str) -> bool:
        """Return whether this worker may have a claim on the request (CLAIM-3)."""
        return self._held[request_id] > 0

    def take(
        self, request_id: str, *, action: str | None = None, tenant_id: str | None = None
    ) -> Slot:
        """Take a slot for the request. The caller checks `free` first."""
        slot = Slot(request_id, action, tenant_id)
        self._used.add(slot)
        self._held[request_id] += 1
        self._actions[action] += 1
        self._tenants[tenant_id] += 1
        self._notify()
        return slot

    def settle(self, slot: Slot) -> None:
        """Record that the request is settled. The slot stays in use until `release`."""
        if slot.held:
            slot.held = False
            _decrement(self._held, slot.request_id)
            self._notify()

    def release(self, slot: Slot) -> None:
        """Settle the request and free its slot. Does nothing if that was done before."""
        if slot in self._used:
            if slot.held:
                slot.held = False
                _decrement(self._held, slot.request_id)
            self._used.remove(slot)
            _decrement(self._actions, slot.action)
            _decrement(self._tenants, slot.tenant_id)
            self._notify()

    async def wait_free(self) -> None:
        """Wait until a slot is free."""
        while self.free <= 0:
            await self._changes.wait()

    async def wait_settled(self) -> None:
        """Wait until this worker holds no request."""
        while self.held:
            await self._changes.wait()

    def _notify(self) -> None:
        self._changes.notify()
        self._events.emit(SlotsChanged(used=self.used, total=self.total))


def _decrement(counter: Counter[Key], key: Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
