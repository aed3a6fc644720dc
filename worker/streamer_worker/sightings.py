"""What a worker remembers of the waiting requests that it has seen."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime

from cachetools import LRUCache

from streamer_store import Candidate, Clock

_REMEMBERED = 10_000
Key = tuple[str, str]


class Sightings:
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

    def lose(self, candidate: Candidate) -> None:
        self._lost[_key(candidate)] = None

    def fail(self, candidate: Candidate) -> None:
        self._failed[_key(candidate)] = None

    def is_lost(self, candidate: Candidate) -> bool:
        return _key(candidate) in self._lost

    def has_failed(self, candidate: Candidate) -> bool:
        return _key(candidate) in self._failed

    def seen_for(self, candidate: Candidate) -> float:
        """Return for how long, in seconds, this worker has known it as it is now."""
        now = self._clock.steady()
        return now - self._first.setdefault(_key(candidate), now)

    def unknown_for(self, action: str) -> float | None:
        """Return for how long requests of an action have been seen that nobody takes; None when
        this is the first.
        """
        now = self._clock.steady()
        since = self._actions.get(action)
        if since is None:
            self._actions[action] = now
            return None
        return now - since

    def known(self, action: str) -> None:
        """Somebody takes the action after all."""
        self._actions.pop(action, None)

    def keep(self, candidate: Candidate) -> None:
        """Keep a retry that is not due yet."""
        key = _key(candidate)
        full = len(self._times) + len(self._ripe) >= _REMEMBERED
        if candidate.retry_after and key not in self._later and not full:
            self._later[key] = candidate
            heapq.heappush(self._times, (candidate.retry_after, key))

    def due(self, is_ours: Callable[[Candidate], bool]) -> list[Candidate]:
        """Return what was kept, is due now, and was not tried since; what is not ours any more
        is forgotten.
        """
        now = self._clock.now()
        while self._times and self._times[0][0] <= now:
            _, key = heapq.heappop(self._times)
            self._ripe[key] = self._later.pop(key)
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
