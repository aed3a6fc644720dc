"""A few waiting requests of each tenant and action, so that small tenants are not delayed."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Final

from cachetools import LRUCache

from streamer_store import Candidate, Priority

_MAX_GROUPS: Final = 1000
_MAX_PER_GROUP: Final = 64
Group = tuple[str | None, str | None, Priority | None]


class Backlog:
    """Remembers requests that this worker could have claimed and did not.

    The first page of StatusIndex holds the oldest requests only, and one tenant may own all of
    them. The page at the poller's cursor shows those of other tenants. They are kept here until
    they are claimed.

    A group holds one tenant's requests of one action and priority. There are at most 1,000 groups
    of 64 requests each. Beyond that, the group that was added to longest ago is forgotten.
    """

    def __init__(self) -> None:
        self._groups: LRUCache[Group, dict[str, Candidate]] = LRUCache(_MAX_GROUPS)

    def add(self, candidate: Candidate) -> None:
        """Remember the candidate if its group has room, or replace its older state."""
        group = self._groups.setdefault(_group(candidate), {})
        if candidate.request_id in group or len(group) < _MAX_PER_GROUP:
            group[candidate.request_id] = candidate

    def discard(self, candidate: Candidate) -> None:
        """Forget the request, if it is known."""
        key = _group(candidate)
        group = self._groups.get(key)
        if group is None:
            return
        group.pop(candidate.request_id, None)
        if not group:
            del self._groups[key]

    def heads(self, at_most: int, last_served: Callable[[str | None], int]) -> list[Candidate]:
        """Return about `at_most` requests, equally many of each group, in the order of `add`.

        Beyond `at_most` groups, those of the tenants that were served longest ago are used.
        `last_served` returns a number that is higher the later a tenant was served.
        """
        keys = sorted(self._groups, key=lambda group: last_served(group[0]))[:at_most]
        share = math.ceil(at_most / max(1, len(keys)))
        groups = (self._groups[key].values() for key in keys)
        return [candidate for group in groups for candidate in islice(group, share)]


def _group(candidate: Candidate) -> Group:
    return candidate.tenant_id, candidate.action, candidate.priority
