"""Which of the waiting requests a worker takes next (pure)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from streamer_store import Candidate

_UNKNOWN = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A waiting request that this worker may take. `rank`: its place among those that may, 0
    for its home. `again`: a claim of it met an error before.
    """

    candidate: Candidate
    rank: int = 0
    again: bool = False


# Names what a candidate counts towards, and how many more of that may run.
Limit = Callable[[Candidate], tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many more may run in all, and under each limit."""

    total: int
    limits: tuple[Limit, ...] = ()


def choose(
    found: Iterable[Found], room: Room, last_served: Callable[[str | None], int]
) -> list[Candidate]:
    """Return what to claim, in order. Others' go only when nothing of our own can: first those
    for which we are next in line, so that thieves do not collide. Tenants take turns, the one
    that was served longest ago first; within a tenant the oldest goes first, a retry counting
    from its creation, so that a stream of new ones does not keep it waiting.
    """
    chosen: list[Candidate] = []
    taken: Counter[tuple[int, str]] = Counter()
    ranked: dict[int, list[Found]] = defaultdict(list)
    for each in found:
        ranked[each.rank].append(each)
    for rank in sorted(ranked):
        for candidate in _in_turns(ranked[rank], last_served):
            if len(chosen) >= room.total:
                return chosen
            counted = [(place, *limit(candidate)) for place, limit in enumerate(room.limits)]
            if all(taken[place, name] < left for place, name, left in counted):
                taken.update((place, name) for place, name, _ in counted)
                chosen.append(candidate)
        if rank == 0 and chosen:
            break
    return chosen


def _in_turns(
    found: Iterable[Found], last_served: Callable[[str | None], int]
) -> Iterable[Candidate]:
    """Yield a candidate of each tenant in turn. One that is skipped does not use up its turn,
    which only makes a difference when limits bind.
    """
    queues: dict[str | None, list[Found]] = defaultdict(list)
    for each in sorted(found, key=_age, reverse=True):
        queues[each.candidate.tenant_id].append(each)
    while queues:
        for tenant in sorted(queues, key=lambda each: (last_served(each), _oldest(queues[each]))):
            yield queues[tenant].pop().candidate
            if not queues[tenant]:
                del queues[tenant]


def _age(each: Found) -> tuple[bool, datetime]:
    return each.again, each.candidate.created_at or _UNKNOWN


def _oldest(queue: list[Found]) -> tuple[bool, datetime]:
    return _age(queue[-1])
