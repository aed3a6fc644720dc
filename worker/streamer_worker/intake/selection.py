"""Which of the waiting requests a worker takes next (pure)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from streamer_store import Candidate

_UNKNOWN = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedCandidate:
    """A waiting request that this worker may take. `rank`: its place among those that may, 0
    for its home. `again`: a claim of it met an error before. `suspect`: it may be what ended
    its workers.
    """

    candidate: Candidate
    rank: int = 0
    again: bool = False
    suspect: bool = False


# Names what a candidate counts towards, and how many more of that may run.
Limit = Callable[[Candidate], tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How many more may run in all, how many of them suspects, and under each limit."""

    total: int
    suspects: int = 0
    limits: tuple[Limit, ...] = ()


def choose(
    found: Iterable[RankedCandidate], room: Capacity, last_served: Callable[[str | None], int]
) -> list[Candidate]:
    """Return what to claim, in order. A suspect goes first, where there is a place for one, and
    whatever its home. Others' go only when nothing of our own can: first those
    for which we are next in line, so that thieves do not collide. Tenants take turns, the one
    that was served longest ago first; within a tenant the oldest goes first, a retry counting
    from its creation, so that a stream of new ones does not keep it waiting.
    """
    picks = _Picks(room)
    ranked: dict[int, list[RankedCandidate]] = defaultdict(list)
    suspects: list[RankedCandidate] = []
    for each in found:
        (suspects if each.suspect else ranked[each.rank]).append(each)
    for each in sorted(suspects, key=lambda each: (each.rank, _age(each))):
        if len(picks.chosen) >= room.suspects:
            break
        picks.try_add(each.candidate)
    before = len(picks.chosen)
    for rank in sorted(ranked):
        for candidate in _in_turns(ranked[rank], last_served):
            if picks.full:
                return picks.chosen
            picks.try_add(candidate)
        if rank == 0 and len(picks.chosen) > before:
            break
    return picks.chosen


class _Picks:
    """What was chosen so far, within the room."""

    def __init__(self, room: Capacity) -> None:
        self.chosen: list[Candidate] = []
        self._room = room
        self._taken: Counter[tuple[int, str]] = Counter()

    @property
    def full(self) -> bool:
        return len(self.chosen) >= self._room.total

    def try_add(self, candidate: Candidate) -> None:
        """Choose the candidate, if there is room for it."""
        counted = [(place, *limit(candidate)) for place, limit in enumerate(self._room.limits)]
        if not self.full and all(self._taken[place, name] < left for place, name, left in counted):
            self._taken.update((place, name) for place, name, _ in counted)
            self.chosen.append(candidate)


def _in_turns(
    found: Iterable[RankedCandidate], last_served: Callable[[str | None], int]
) -> Iterable[Candidate]:
    """Yield a candidate of each tenant in turn. One that is skipped does not use up its turn,
    which only makes a difference when limits bind.
    """
    queues: dict[str | None, list[RankedCandidate]] = defaultdict(list)
    for each in sorted(found, key=_age, reverse=True):
        queues[each.candidate.tenant_id].append(each)
    while queues:
        for tenant in sorted(queues, key=lambda each: (last_served(each), _oldest(queues[each]))):
            yield queues[tenant].pop().candidate
            if not queues[tenant]:
                del queues[tenant]


def _age(each: RankedCandidate) -> tuple[bool, datetime]:
    return each.again, each.candidate.created_at or _UNKNOWN


def _oldest(queue: list[RankedCandidate]) -> tuple[bool, datetime]:
    return _age(queue[-1])
