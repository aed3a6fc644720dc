"""The slots of a worker: they limit how many requests it runs, and record which it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from streamer_store import Claim
from streamer_worker.changes import Changes
from streamer_worker.events import Events, SlotsChanged
from streamer_worker.intake.permits import Permit

Key = TypeVar("Key")


@dataclass(slots=True, eq=False)
class Slot:
    """One request, from the moment its claim is sent.

    `permits`: those of rate limits that its claim uses. `used`: its claim is on its way, or its
    handler runs. `held`: it is not settled yet.
    """

    request_id: str
    action: str | None
    tenant_id: str | None
    permits: tuple[Permit, ...] = ()
    used: bool = True
    held: bool = True


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claim that was won, with its slot."""

    claim: Claim
    slot: Slot


ClaimCall = Callable[[], Awaitable[Assignment | None]]
"""Claims a request. Returns None if the claim was not won."""


class Slots:
    """Counts the slots in use, by action and by tenant, and the requests that are held.

    A slot is in use from the moment a claim is sent until the handler has ended, and in a thread
    until the thread ends. The request is held until its outcome is written (CLAIM-3). So the next
    claim leaves together with the outcome. During an outage outcomes cannot be written: beyond
    `total` such requests each uses a slot again, so a worker holds at most twice `total`.

    `freed`: changes when a handler has ended, or its request is settled.

    A claim that follows the end of a handler leaves `used` as it was. So neither `take` nor
    `vacate` emits SlotsChanged, but `report` does, which the poller calls after its choice, and
    so do `settle` and `release`. Only the last slot that is taken and the first that is free again
    are emitted at once, because health checks expect no polls between.
    """

    def __init__(self, total: int, *, events: Events) -> None:
        self.total = total
        self.freed = Changes()
        # Requests whose claim is on its way or whose handler runs, and those that are only held.
        self._running = 0
        self._settling = 0
        self._held: Counter[str] = Counter()
        self._actions: Counter[str | None] = Counter()
        self._tenants: Counter[str | None] = Counter()
        self._events = events
        self._changes = Changes()
        self._emitted = -1
        self.report()

    @property
    def used(self) -> int:
        """How many slots are in use. May be read on any thread."""
        return self._running + max(0, self._settling - self.total)

    @property
    def in_flight(self) -> int:
        """How many requests use a slot or are held. May be read on any thread."""
        return self._running + self._settling

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
        """Take a slot for the request. The caller checks `free` first, and calls `report` later."""
        slot = Slot(request_id, action, tenant_id)
        self._running += 1
        self._held[request_id] += 1
        self._actions[action] += 1
        self._tenants[tenant_id] += 1
        if self.free <= 0:
            self.report()
        return slot

    def give_back(self, slot: Slot) -> None:
        """Free the slot of a claim that was not won. Its handler never ran."""
        self._free(slot)
        self._settle(slot)
        self._changes.notify()
        self.report()

    def vacate(self, slot: Slot) -> None:
        """Free the slot: its handler has ended. The request is held until `settle`."""
        self._free(slot)
        self._notify()
        if self._emitted >= self.total:
            self.report()

    def settle(self, slot: Slot) -> None:
        """Record that the request is settled. The slot stays in use until it is freed."""
        self._settle(slot)
        self._notify()
        self.report()

    def release(self, slot: Slot) -> None:
        """Free the slot and settle the request. Does nothing if both were done before."""
        self._free(slot)
        self._settle(slot)
        self._notify()
        self.report()

    def report(self) -> None:
        """Emit SlotsChanged if `used` has changed since the last time."""
        if self.used != self._emitted:
            self._emitted = self.used
            self._events.emit(SlotsChanged(used=self.used, total=self.total))

    async def wait_free(self) -> None:
        """Wait until a slot is free."""
        while self.free <= 0:
            await self._changes.wait()

    async def wait_settled(self) -> None:
        """Wait until this worker holds no request."""
        while self.held:
            await self._changes.wait()

    def _free(self, slot: Slot) -> None:
        if slot.used:
            slot.used = False
            self._running -= 1
            self._settling += slot.held
            _decrement(self._actions, slot.action)
            _decrement(self._tenants, slot.tenant_id)

    def _settle(self, slot: Slot) -> None:
        if slot.held:
            slot.held = False
            self._settling -= not slot.used
            _decrement(self._held, slot.request_id)

    def _notify(self) -> None:
        self._changes.notify()
        self.freed.notify()


def _decrement(counter: Counter[Key], key: Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
