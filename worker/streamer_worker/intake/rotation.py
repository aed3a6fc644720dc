"""Requests of which the tenants take turns, within the limits of a worker."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from operator import attrgetter
from typing import Final, Protocol

from cachetools import LRUCache

from streamer_store import Candidate
from streamer_worker.intake.urgency import Urgency

_UNKNOWN = datetime.min.replace(tzinfo=UTC)
_MAX_TENANTS: Final = 10_000

# The kind and the name of a limit, for example ("tenant", "a").
Limit = tuple[str, str]
SortKey = tuple[bool, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedCandidate:
    """A waiting request that this worker may claim.

    `rank`: the worker's place in the order of the workers that may run the request, 0 for its
    home. `urgency`: how urgent it is now. `previously_failed`: a claim of the request met an error,
    or it was the probe of a fuse.
    """

    candidate: Candidate
    rank: int = 0
    urgency: Urgency = Urgency.NORMAL
    previously_failed: bool = False

    @property
    def sort_key(self) -> SortKey:
        """A sort key: claims that failed last, otherwise the oldest first."""
        return self.previously_failed, self.candidate.created_at or _UNKNOWN


class Capacity(Protocol):
    """How many more requests may run. Each call returns what is true at that moment."""

    def limits_of(self, candidate: Candidate) -> tuple[Limit, ...]:
        """Return the limits under which the request counts, beside the number of slots."""

    def left(self, limit: Limit) -> float:
        """Return how many more requests may run under the limit. It may be negative."""

    def suspect_fits(self) -> bool:
        """Return whether one more suspect may run."""


class Turns:
    """Remembers the order in which the tenants were served, for 10,000 tenants."""

    def __init__(self) -> None:
        self._served: LRUCache[str | None, int] = LRUCache(_MAX_TENANTS)
        self._count = 0

    def serve(self, tenant: str | None) -> None:
        """Record that a request of the tenant is claimed."""
        self._count += 1
        self._served[tenant] = self._count

    def last_served(self, tenant: str | None) -> int:
        """Return a number that is higher the later the tenant was served. 0: never."""
        return self._served.get(tenant, 0)


class Rotation:
    """Requests of one rank, of which the tenants take turns.

    A group has one tenant's requests under the same limits, the next one last. A tenant of which
    no group fits waits until one of the limits that it met has capacity again, so that a slot that
    is freed costs the same however many requests wait.
    """

    def __init__(
        self, candidates: Iterable[RankedCandidate], capacity: Capacity, turns: Turns
    ) -> None:
        self._capacity = capacity
        self._turns = turns
        self._tenants: dict[str | None, dict[tuple[Limit, ...], list[RankedCandidate]]] = {}
        limits: dict[tuple[str | None, str | None], tuple[Limit, ...]] = {}
        for ranked in sorted(candidates, key=attrgetter("sort_key"), reverse=True):
            candidate = ranked.candidate
            kind = candidate.tenant_id, candidate.action
            if kind not in limits:
                limits[kind] = capacity.limits_of(candidate)
            groups = self._tenants.setdefault(candidate.tenant_id, {})
            groups.setdefault(limits[kind], []).append(ranked)
        # The tenants that may have a group that fits, with the number of their last turn.
        self._ready: list[tuple[int, SortKey, int, str | None]] = []
        self._pushed = count()
        # The tenants that wait, by each limit that they met.
        self._waiting: dict[Limit, set[str | None]] = {}
        for tenant in self._tenants:
            self._push(tenant)
        self._size = sum(
            len(group) for groups in self._tenants.values() for group in groups.values()
        )

    def __len__(self) -> int:
        return self._size

    def fits(self) -> bool:
        """Return whether a request that is left may run now."""
        while self._ready:
            _, _, _, tenant = self._ready[0]
            if self._best_group(tenant) is not None:
                return True
            heapq.heappop(self._ready)
        return any(self._capacity.left(limit) > 0 for limit in self._waiting)

    def waits_for(self, limit: Limit) -> bool:
        """Return whether a tenant waits for capacity under the limit, as `take` saw it last."""
        return limit in self._waiting

    def take(self) -> Candidate | None:
        """Remove the next request that fits and return it, or None if none fits."""
        self._wake_waiting()
        while self._ready:
            _, _, _, tenant = heapq.heappop(self._ready)
            limits = self._best_group(tenant)
            if limits is not None:
                return self._take_from(tenant, limits)
        return None

    def _best_group(self, tenant: str | None) -> tuple[Limit, ...] | None:
        """Return the tenant's group with the next request that fits, or let the tenant wait."""
        groups = self._tenants[tenant]
        best: tuple[Limit, ...] | None = None
        met = []
        for limits, group in groups.items():
            reached = next((limit for limit in limits if self._capacity.left(limit) <= 0), None)
            if reached is not None:
                met.append(reached)
            elif best is None or group[-1].sort_key < groups[best][-1].sort_key:
                best = limits
        if best is None:
            for limit in met:
                self._waiting.setdefault(limit, set()).add(tenant)
        return best

    def _take_from(self, tenant: str | None, limits: tuple[Limit, ...]) -> Candidate:
        groups = self._tenants[tenant]
        candidate = groups[limits].pop().candidate
        self._size -= 1
        self._turns.serve(tenant)
        if not groups[limits]:
            del groups[limits]
        if groups:
            self._push(tenant)
        else:
            del self._tenants[tenant]
        return candidate

    def _push(self, tenant: str | None) -> None:
        head = min(group[-1].sort_key for group in self._tenants[tenant].values())
        turn = self._turns.last_served(tenant)
        heapq.heappush(self._ready, (turn, head, next(self._pushed), tenant))

    def _wake_waiting(self) -> None:
        woken: set[str | None] = set()
        for limit in [limit for limit in self._waiting if self._capacity.left(limit) > 0]:
            woken |= self._waiting.pop(limit)
        for limit in list(self._waiting) if woken else ():
            self._waiting[limit] -= woken
            if not self._waiting[limit]:
                del self._waiting[limit]
        for tenant in sorted(woken, key=str):
            self._push(tenant)
