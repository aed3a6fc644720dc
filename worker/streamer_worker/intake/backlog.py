"""A few waiting requests of each tenant and action, so that small tenants are not delayed."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Final

from cachetools import LRUCache

from streamer_store import Candidate

_MAX_LANES: Final = 1000
_MAX_PER_LANE: Final = 64
Lane = tuple[str | None, str | None]


class Backlog:
    """Remembers requests that this worker could have claimed and did not.

    The first page of StatusIndex holds the oldest requests only, and one tenant may own all of
    them. The page at the poller's cursor shows those of other tenants. They are kept here until
    they are claimed.

    A lane holds one tenant's requests of one action. There are at most 1,000 lanes of 64
    requests each. Beyond that, the lane that was added to longest ago is forgotten.
    """

    def __init__(self) -> None:
        self._lanes: LRUCache[Lane, dict[str, Candidate]] = LRUCache(_MAX_LANES)

    def add(self, candidate: Candidate) -> None:
        """Remember the candidate if its lane has room, or replace its older state."""
        lane = self._lanes.setdefault(_lane(candidate), {})
        if candidate.request_id in lane or len(lane) < _MAX_PER_LANE:
            lane[candidate.request_id] = candidate

    def discard(self, candidate: Candidate) -> None:
        """Forget the request, if it is known."""
        key = _lane(candidate)
        lane = self._lanes.get(key)
        if lane is None:
            return
        lane.pop(candidate.request_id, None)
        if not lane:
            del self._lanes[key]

    def heads(self, at_most: int, last_served: Callable[[str | None], int]) -> list[Candidate]:
        """Return about `at_most` requests, equally many of each lane, in the order of `add`.

        Beyond `at_most` lanes, those of the tenants that were served longest ago are used.
        `last_served` returns a number that is higher the later a tenant was served.
        """
        keys = sorted(self._lanes, key=lambda lane: last_served(lane[0]))[:at_most]
        share = math.ceil(at_most / max(1, len(keys)))
        lanes = (self._lanes[key].values() for key in keys)
        return [candidate for lane in lanes for candidate in islice(lane, share)]


def _lane(candidate: Candidate) -> Lane:
    return candidate.tenant_id, candidate.action
