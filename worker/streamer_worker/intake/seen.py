"""Remembers the waiting requests that a worker has seen."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from datetime import datetime
from operator import itemgetter

from cachetools import LRUCache

from streamer_store import Candidate, Clock

_MAX_REMEMBERED = 10_000
# Each of these is offered in each poll until it is tried. The others are found in the index.
_MAX_DUE = 1000
Key = tuple[str, str]


class SeenRequests:
    """A bounded memory of waiting requests, actions and retries that are not due yet.

    A request is identified by its id and its Version: a request whose Status has changed since
    counts as not seen before. Each kind of entry is limited to 10,000. The entry that was used
    longest ago is forgotten first.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._lost: LRUCache[Key, None] = LRUCache(_MAX_REMEMBERED)
        self._failed: LRUCache[Key, None] = LRUCache(_MAX_REMEMBERED)
        self._first_seen: LRUCache[Key, float] = LRUCache(_MAX_REMEMBERED)
        self._unknown_actions: LRUCache[str, float] = LRUCache(_MAX_REMEMBERED)
        self._rescues: LRUCache[str, int] = LRUCache(_MAX_REMEMBERED)
        # Retries that are not due yet, and their times in ascending order.
        self._deferred: dict[Key, Candidate] = {}
        self._times: list[tuple[datetime, Key]] = []
        # Retries that have become due and were not tried since.
        self._due: dict[Key, Candidate] = {}

    def note_rescues(self, request_id: str, rescues: int) -> None:
        """Remember the Rescues that a claim returned: StatusIndex may not project them."""
        if rescues:
            self._rescues[request_id] = rescues
        else:
            self._rescues.pop(request_id, None)

    def rescues_of(self, candidate: Candidate) -> int:
        """Return how often the request lost its worker, as the index or a claim showed."""
        return max(candidate.rescues, self._rescues.get(candidate.request_id, 0))

    def mark_lost(self, candidate: Candidate) -> None:
        """Exclude the candidate: another worker claimed it, or it cannot be claimed at all.

        This Version of the request is not tried again.
        """
        self._lost[_key(candidate)] = None

    def mark_claimed(self, candidate: Candidate) -> None:
        """Exclude the candidate: this worker claimed it, and StatusIndex may still show it."""
        self._lost[_key(candidate)] = None

    def mark_failed(self, candidate: Candidate) -> None:
        """Remember that a claim of the candidate met an error.

        It is tried again, after the candidates without an error.
        """
        self._failed[_key(candidate)] = None

    def is_lost(self, candidate: Candidate) -> bool:
        return _key(candidate) in self._lost

    def has_failed(self, candidate: Candidate) -> bool:
        return _key(candidate) in self._failed

    def seen_for(self, candidate: Candidate) -> float:
        """Return the seconds since this Version of the request was first passed to this method."""
        now = self._clock.steady()
        return now - self._first_seen.setdefault(_key(candidate), now)

    def note_unknown_action(self, action: str) -> bool:
        """Remember an action that no live worker lists. Return whether it is new."""
        new = action not in self._unknown_actions
        self._unknown_actions.setdefault(action, self._clock.steady())
        return new

    def unknown_actions(self) -> list[tuple[str, float]]:
        """Return each unknown action, with the steady time when it was first seen."""
        return list(self._unknown_actions.items())

    def forget_unknown_action(self, action: str) -> None:
        """Remove the action: a live worker lists it, or no request has it any more."""
        self._unknown_actions.pop(action, None)

    def defer(self, candidate: Candidate) -> None:
        """Remember a retry that is not due yet, so that it starts on time.

        The poller's cursor may be elsewhere at that time. Beyond 10,000 retries the one that is
        due last is forgotten: the cursor finds it later.
        """
        key = _key(candidate)
        if candidate.retry_after is None or key in self._deferred:
            return
        self._deferred[key] = candidate
        bisect.insort(self._times, (candidate.retry_after, key))
        if len(self._times) > _MAX_REMEMBERED:
            _, last = self._times.pop()
            del self._deferred[last]

    def due(self, is_ours: Callable[[Candidate], bool]) -> list[Candidate]:
        """Return the deferred retries that are due and were not tried since.

        Those for which `is_ours` returns False are forgotten.
        """
        count = bisect.bisect_right(self._times, self._clock.now(), key=itemgetter(0))
        for _, key in self._times[:count]:
            candidate = self._deferred.pop(key)
            if len(self._due) < _MAX_DUE:
                self._due[key] = candidate
        del self._times[:count]
        self._due = {key: retry for key, retry in self._due.items() if is_ours(retry)}
        return list(self._due.values())

    def mark_tried(self, candidate: Candidate) -> None:
        """Forget the deferred retry: a claim of it is sent."""
        self._due.pop(_key(candidate), None)

    def next_due(self) -> float | None:
        """Return the seconds until the next deferred retry is due, or None if there is none."""
        if not self._times:
            return None
        return max(0.0, (self._times[0][0] - self._clock.now()).total_seconds())


def _key(candidate: Candidate) -> Key:
    version = candidate.seen_version or {}
    text = version.get("S")
    return candidate.request_id, text if isinstance(text, str) else repr(version)
