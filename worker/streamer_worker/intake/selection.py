"""Chooses which of the waiting requests a worker claims next (pure)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from streamer_store import Candidate

_UNKNOWN = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedCandidate:
    """A waiting request that this worker may claim.

    `rank`: the worker's place in the order of the workers that may run the request, 0 for its
    home. `previously_failed`: a claim of the request met an error. `suspect`: the request may
    be the reason why its earlier workers died.
    """

    candidate: Candidate
    rank: int = 0
    previously_failed: bool = False
    suspect: bool = False


# Returns the name under which a candidate is counted, and how many more under that name may run.
Limit = Callable[[Candidate], tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many more requests may run: in all, suspects, and under each limit."""

    total: int
    suspects: int = 0
    limits: tuple[Limit, ...] = ()


def choose(
    candidates: Iterable[RankedCandidate],
    capacity: Capacity,
    last_served: Callable[[str | None], int],
) -> list[Candidate]:
    """Return the requests to claim, in order, at most as many as the capacity allows.

    There are three groups:

    1. Suspects come first, at most `capacity.suspects`, whatever their rank.
    2. Requests of rank 0 come next: this worker is their home.
    3. Requests of higher ranks are taken only if none of rank 0 was chosen, in order of rank,
       so that workers that steal do not collide.

    In groups 2 and 3 tenants alternate, and the tenant that was served longest ago goes first.
    The oldest request of a tenant goes first. A retry counts from its creation, so that new
    requests do not delay it. Requests of which a claim failed go last.

    `last_served` returns a number that is higher the later a tenant was served.
    """
    selection = _Selection(capacity)
    by_rank: dict[int, list[RankedCandidate]] = defaultdict(list)
    suspects: list[RankedCandidate] = []
    for ranked in candidates:
        (suspects if ranked.suspect else by_rank[ranked.rank]).append(ranked)
    for suspect in sorted(suspects, key=lambda ranked: (ranked.rank, _priority(ranked))):
        if len(selection.chosen) >= capacity.suspects:
            break
        selection.try_add(suspect.candidate)
    suspects_chosen = len(selection.chosen)
    for rank in sorted(by_rank):
        for candidate in _alternate_tenants(by_rank[rank], last_served):
            if selection.full:
                return selection.chosen
            selection.try_add(candidate)
        if rank == 0 and len(selection.chosen) > suspects_chosen:
            break
    return selection.chosen


class _Selection:
    """The candidates that were chosen so far, within the capacity."""

    def __init__(self, capacity: Capacity) -> None:
        self.chosen: list[Candidate] = []
        self._capacity = capacity
        self._counts: Counter[tuple[int, str]] = Counter()

    @property
    def full(self) -> bool:
        return len(self.chosen) >= self._capacity.total

    def try_add(self, candidate: Candidate) -> None:
        """Choose the candidate, unless a limit is reached."""
        limits = [(index, *limit(candidate)) for index, limit in enumerate(self._capacity.limits)]
        if not self.full and all(self._counts[index, name] < left for index, name, left in limits):
            self._counts.update((index, name) for index, name, _ in limits)
            self.chosen.append(candidate)


def _alternate_tenants(
    candidates: Iterable[RankedCandidate], last_served: Callable[[str | None], int]
) -> Iterable[Candidate]:
    """Yield one candidate of each tenant, then the next one of each, until none is left.

    A tenant whose candidate meets a limit is offered again only in the next round.
    """
    queues: dict[str | None, list[RankedCandidate]] = defaultdict(list)
    for ranked in sorted(candidates, key=_priority, reverse=True):
        queues[ranked.candidate.tenant_id].append(ranked)

    def order(tenant: str | None) -> tuple[int, tuple[bool, datetime]]:
        return last_served(tenant), _priority(queues[tenant][-1])

    while queues:
        for tenant in sorted(queues, key=order):
            yield queues[tenant].pop().candidate
            if not queues[tenant]:
                del queues[tenant]


def _priority(ranked: RankedCandidate) -> tuple[bool, datetime]:
    """Return a sort key: claims that failed last, otherwise the oldest first."""
    return ranked.previously_failed, ranked.candidate.created_at or _UNKNOWN
