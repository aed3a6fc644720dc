"""Chooses which of the waiting requests a worker claims next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from streamer_store import Candidate
from streamer_worker.intake.rotation import Capacity, RankedCandidate, Rotation, Turns
from streamer_worker.intake.urgency import Urgency


def new_turns() -> Mapping[Urgency, Turns]:
    """Return the turns of tenants, of which each urgency has its own.

    So the normal requests of a tenant do not wait longer because it sends high ones, too.
    """
    return {urgency: Turns() for urgency in Urgency}


class Selection:
    """Requests that were read together, and which of them is claimed next.

    The order is:

    1. Suspects come first, while one fits, whatever their rank. A suspect may be the reason why
       its earlier workers died.
    2. High requests come next, in order of rank: home only means who goes first.
    3. Normal requests of rank 0 come next: this worker is their home.
    4. Normal requests of higher ranks are taken only if none of rank 0 was taken, in order of
       rank, so that workers that steal do not collide.
    5. Low requests are taken only if no normal one was taken, as in 3 and 4.

    In groups 2 to 5 tenants alternate, and the tenant that was served longest ago goes first.
    The oldest request of a tenant that fits goes first. A retry counts from its creation, so that
    new requests do not delay it. Requests of which a claim or a probe failed go last.

    own: the requests of rank 0. high: high requests of higher ranks. suspects: of any rank.
    others: the other requests of higher ranks. `rank_others` chooses those that are not left to
        other workers, and ranks them. It is called at most once, when they are needed.
    """

    def __init__(
        self,
        *,
        own: Iterable[RankedCandidate] = (),
        high: Iterable[RankedCandidate] = (),
        suspects: Iterable[RankedCandidate] = (),
        others: Iterable[RankedCandidate] = (),
        rank_others: Callable[[list[RankedCandidate]], Iterable[RankedCandidate]] = list,
        capacity: Capacity,
        turns: Mapping[Urgency, Turns],
    ) -> None:
        self._capacity = capacity
        self._turns = turns
        self._suspects = sorted(suspects, key=attrgetter("urgency", "rank", "sort_key"))
        by_urgency: dict[Urgency, list[RankedCandidate]] = {urgency: [] for urgency in Urgency}
        for ranked in own:
            by_urgency[ranked.urgency].append(ranked)
        self._high = self._rotations([*by_urgency[Urgency.HIGH], *high])
        self._own = {
            urgency: Rotation(by_urgency[urgency], capacity, turns[urgency])
            for urgency in (Urgency.NORMAL, Urgency.LOW)
        }
        self._unranked = others
        self._rank_others = rank_others
        self._others: dict[Urgency, list[Rotation]] = {}
        self._dropped_low = False

    def take(self) -> Candidate | None:
        """Remove the next request that fits and return it, or None if none fits.

        The caller checks that a slot is free, and takes it before the next call.
        """
        return (
            self._take_suspect()
            or _take_first(self._high)
            or self._take_at(Urgency.NORMAL)
            or self._take_at(Urgency.LOW)
        )

    def drop_others(self) -> bool:
        """Remove what is not high and of higher ranks, because other workers may claim it soon.

        Returns whether there was any that was needed and fits, or low ones were removed for normal
        ones.
        """
        any_left = self._dropped_low or any(rotation.fits() for rotation in self._all_others())
        self._dropped_low = False
        self._forget_others()
        return any_left

    def __len__(self) -> int:
        rotations = (*self._high, *self._own.values(), *self._all_others())
        return len(self._suspects) + sum(map(len, rotations))

    @property
    def is_used_up(self) -> bool:
        """Whether no suspect, no high request and no request of rank 0 is left."""
        return not (self._suspects or any(map(len, (*self._high, *self._own.values()))))

    @property
    def has_low_only(self) -> bool:
        """Whether no request that is left goes before the low ones."""
        return not (self._suspects or any(map(len, self._high)) or self._own[Urgency.NORMAL])

    def is_bounded(self, candidate: Candidate) -> bool:
        """Return whether a limit of this candidate holds back a request that is left."""
        rotations = (*self._high, *self._own.values())
        limits = self._capacity.limits_of(candidate)
        return any(rotation.waits_for(limit) for limit in limits for rotation in rotations)

    def fits(self, least: Urgency = Urgency.LOW) -> bool:
        """Return whether a suspect, or another request that `is_used_up` counts, may run now.

        least: the urgency that it has at least, if it is no suspect.
        """
        own = (rotation for urgency, rotation in self._own.items() if urgency <= least)
        rotations = (*self._high, *own)
        return any(rotation.fits() for rotation in rotations) or any(
            map(self._suspect_fits, self._suspects)
        )

    def _take_at(self, urgency: Urgency) -> Candidate | None:
        """Take a request of this urgency. Then forget those that are only for a free worker."""
        candidate = self._own[urgency].take()
        if candidate is not None:
            self._forget_others()
        elif self._unranked:
            self._others = self._by_urgency(self._rank_others(self._fitting(self._unranked)))
            self._unranked = ()
        candidate = candidate or _take_first(self._others.get(urgency, ()))
        if candidate is not None and urgency is Urgency.NORMAL:
            self._drop_low()
        return candidate

    def _fitting(self, candidates: Iterable[RankedCandidate]) -> list[RankedCandidate]:
        """Return those that fit. Most of many that wait for a limit do not."""
        fits: dict[tuple[str | None, str | None], bool] = {}
        fitting = []
        for ranked in candidates:
            kind = ranked.candidate.tenant_id, ranked.candidate.action
            if kind not in fits:
                fits[kind] = self._limits_allow(ranked.candidate)
            if fits[kind]:
                fitting.append(ranked)
        return fitting

    def _by_urgency(self, others: Iterable[RankedCandidate]) -> dict[Urgency, list[Rotation]]:
        by_urgency: dict[Urgency, list[RankedCandidate]] = defaultdict(list)
        for ranked in others:
            by_urgency[ranked.urgency].append(ranked)
        return {urgency: self._rotations(group) for urgency, group in by_urgency.items()}

    def _rotations(self, candidates: Iterable[RankedCandidate]) -> list[Rotation]:
        """Return the rotations of candidates of one urgency, by rank."""
        by_rank: dict[int, list[RankedCandidate]] = defaultdict(list)
        for ranked in candidates:
            by_rank[ranked.rank].append(ranked)
        return [
            Rotation(by_rank[rank], self._capacity, self._turns[by_rank[rank][0].urgency])
            for rank in sorted(by_rank)
        ]

    def _all_others(self) -> Iterable[Rotation]:
        return (rotation for rotations in self._others.values() for rotation in rotations)

    def _forget_others(self) -> None:
        self._unranked = ()
        self._others = {}

    def _drop_low(self) -> None:
        """Forget low requests: after the normal one that is taken, more may have come."""
        if self._own[Urgency.LOW] or self._others.pop(Urgency.LOW, []):
            self._dropped_low = True
            self._own[Urgency.LOW] = Rotation((), self._capacity, self._turns[Urgency.LOW])

    def _take_suspect(self) -> Candidate | None:
        for place, suspect in enumerate(self._suspects):
            if self._suspect_fits(suspect):
                del self._suspects[place]
                self._turns[suspect.urgency].serve(suspect.candidate.tenant_id)
                return suspect.candidate
        return None

    def _suspect_fits(self, suspect: RankedCandidate) -> bool:
        return self._capacity.suspect_fits() and self._limits_allow(suspect.candidate)

    def _limits_allow(self, candidate: Candidate) -> bool:
        return all(self._capacity.left(each) > 0 for each in self._capacity.limits_of(candidate))


def _take_first(rotations: Iterable[Rotation]) -> Candidate | None:
    """Take from the first rotation that has a request that fits."""
    taken = (rotation.take() for rotation in rotations)
    return next((candidate for candidate in taken if candidate is not None), None)
