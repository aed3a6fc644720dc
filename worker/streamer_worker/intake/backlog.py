"""A few waiting requests of each tenant and action, so that tenants take true turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Final

from cachetools import LRUCache

from streamer_store import Candidate

_LANES: Final = 1000
_PER_LANE: Final = 64
Lane = tuple[str | None, str | None]


class Backlog:
    """Remembers what was seen, could have been claimed by this worker, and was not.

    A page of StatusIndex shows the oldest requests only, and those may all be of one tenant.
    What the roving page shows of the others is kept here until it is claimed. A lane is a
    tenant's requests of one action. There are 1,000 lanes at most, of 64 requests each: where
    there are more tenants, the lane that was added to longest ago is forgotten.
    """

    def __init__(self) -> None:
        self._lanes: LRUCache[Lane, dict[str, Candidate]] = LRUCache(_LANES)

    def add(self, candidate: Candidate) -> None:
        """Remember the candidate, if its lane has room. A newer state replaces an older one."""
        lane = self._lanes.setdefault(_lane(candidate), {})
        if candidate.request_id in lane or len(lane) < _PER_LANE:
            lane[candidate.request_id] = candidate

    def discard(self, candidate: Candidate) -> None:
        """Forget the request: a claim of it was sent."""
        key = _lane(candidate)
        lane = self._lanes.get(key)
        if lane is None:
            return
        lane.pop(candidate.request_id, None)
        if not lane:
            del self._lanes[key]

    def heads(self, at_most: int, last_served: Callable[[str | None], int]) -> list[Candidate]:
        """Return some `at_most` requests, as many of each lane, in the order they were seen.

        Where there are more lanes than that, those of the tenants that were served longest ago
        come first.
        """
        keys = sorted(self._lanes, key=lambda lane: last_served(lane[0]))[:at_most]
        share = math.ceil(at_most / max(1, len(keys)))
        lanes = (self._lanes[key].values() for key in keys)
        return [candidate for lane in lanes for candidate in islice(lane, share)]


def _lane(candidate: Candidate) -> Lane:
    return candidate.tenant_id, candidate.action
