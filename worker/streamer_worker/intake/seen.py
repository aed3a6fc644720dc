"""What a worker remembers of the waiting requests that it has seen."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from datetime import datetime
from operator import itemgetter

from cachetools import LRUCache

from streamer_store import Candidate, Clock

_REMEMBERED = 10_000
Key = tuple[str, str]


class SeenRequests:
    """Bounded memory, by id and Version: a request that moves on is another sighting.

    `lost`: somebody else was faster; not tried again. `failed`: a claim met an error; tried
    again, after those that did not. Our own retries that are not due yet are kept until they
    are, so that they start on time wherever the cursor is.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._lost: LRUCache[Key, None] = LRUCache(_REMEMBERED)
        self._failed: LRUCache[Key, None] = LRUCache(_REMEMBERED)
        self._first: LRUCache[Key, float] = LRUCache(_REMEMBERED)
        self._actions: LRUCache[str, float] = LRUCache(_REMEMBERED)
        self._later: dict[Key, Candidate] = {}
        self._times: list[tuple[datetime, Key]] = []
        self._ripe: dict[Key, Candidate] = {}
        self._rescues: LRUCache[str, int] = LRUCache(_REMEMBERED)

    def note_rescues(self, request_id: str, rescues: int) -> None:
        """Remember what a claim showed: StatusIndex may not project Rescues."""
        if rescues:
            self._rescues[request_id] = rescues
        else:
            self._rescues.pop(request_id, None)

    def rescues_of(self, candidate: Candidate) -> int:
        """Return how often the request's worker was lost, as the index or a claim showed."""
        return max(candidate.rescues, self._rescues.get(candidate.request_id, 0))

    def mark_lost(self, candidate: Candidate) -> None:
        self._lost[_key(candidate)] = None

    def mark_failed(self, candidate: Candidate) -> None:
        self._failed[_key(candidate)] = None

    def is_lost(self, candidate: Candidate) -> bool:
        return _key(candidate) in self._lost

    def has_failed(self, candidate: Candidate) -> bool:
        return _key(candidate) in self._failed

    def seen_for(self, candidate: Candidate) -> float:
        """Return for how long, in seconds, this worker has known it as it is now."""
        now = self._clock.steady()
        return now - self._first.setdefault(_key(candidate), now)

    def is_new(self, action: str) -> bool:
        """Whether this is the first that is seen of an action that nobody takes."""
        new = action not in self._actions
        self._actions.setdefault(action, self._clock.steady())
        return new

    def unknown_actions(self) -> list[tuple[str, float]]:
        """Return the actions that nobody took, each with the steady time of its first sighting."""
        return list(self._actions.items())

    def known(self, action: str) -> None:
        """Somebody takes the action after all."""
        self._actions.pop(action, None)

    def defer(self, candidate: Candidate) -> None:
        """Keep a retry that is not due yet; where there are too many, the last to be due goes."""
        key = _key(candidate)
        if candidate.retry_after is None or key in self._later:
            return
        self._later[key] = candidate
        bisect.insort(self._times, (candidate.retry_after, key))
        if len(self._times) > _REMEMBERED:
            _, last = self._times.pop()
            del self._later[last]

    def due(self, is_ours: Callable[[Candidate], bool]) -> list[Candidate]:
        """Return what was kept, is due now, and was not tried since; what is not ours any more
        is forgotten.
        """
        count = bisect.bisect_right(self._times, self._clock.now(), key=itemgetter(0))
        for _, key in self._times[:count]:
            candidate = self._later.pop(key)
            if len(self._ripe) < _REMEMBERED:  # the others are found in the index
                self._ripe[key] = candidate
        del self._times[:count]
        self._ripe = {key: each for key, each in self._ripe.items() if is_ours(each)}
        return list(self._ripe.values())

    def tried(self, candidate: Candidate) -> None:
        self._ripe.pop(_key(candidate), None)

    def next_due(self) -> float | None:
        """Return the seconds until the next retry that was kept is due."""
        if not self._times:
            return None
        return max(0.0, (self._times[0][0] - self._clock.now()).total_seconds())


def _key(candidate: Candidate) -> Key:
    return candidate.request_id, repr(candidate.seen_version)
