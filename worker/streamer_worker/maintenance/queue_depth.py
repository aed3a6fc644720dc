"""Counts the requests that wait and that run. Only the leader does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from streamer_store import Depth, Lane, RequestQueue, RequestStatus
from streamer_store.transitions import DELAYED
from streamer_worker.events import QueueMeasured
from streamer_worker.fleet.membership import Membership
from streamer_worker.runtime import Runtime
from streamer_worker.settings import DepthSettings

# How soon a worker that does not lead checks again whether it does, in seconds.
_LEADER_CHECK: Final = 5.0
# How often the requests that wait for later are counted: every 10 minutes, and more rarely if they
# are many, so that reading them costs 0.1 read units a second at most (about 250 bytes each).
_LATER_INTERVAL: Final = 600.0
_LATER_SECONDS_EACH: Final = 0.3
Depths = Mapping[RequestStatus, Depth]


class DepthGauge:
    """Counts the requests of each status. Only the leader does, because it costs read units.

    With a DueIndex, RETRYING and SCHEDULED requests count once they may run. Those that wait for
    later are counted apart, and rarely. Without one, all of them count.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        settings: DepthSettings,
        membership: Membership,
        runtime: Runtime,
    ) -> None:
        self._requests = requests
        self._settings = settings
        self._membership = membership
        self._events = runtime.events
        self._clock = runtime.clock
        self._count_later_at = -math.inf

    async def step(self) -> Depths | None:
        """Count each status, emit QueueMeasured for it, and return the counts.

        Returns None if this worker does not lead, or stops leading while it counts. A count that
        is emitted after that would never be replaced.
        """
        if not self._membership.leads:
            self._count_later_at = -math.inf
            return None
        depths = await self._of_status(RequestStatus.PENDING)
        depths |= await self._in_lanes(later=False) or await self._of_status(*DELAYED)
        depths |= await self._of_status(RequestStatus.PROCESSING)
        if not self._emit(depths, later=False):
            return None
        if self._clock.steady() >= self._count_later_at:
            later = await self._in_lanes(later=True) or {}
            if not self._emit(later, later=True):
                return None
            count = sum(depth.count for depth in later.values())
            pause = max(_LATER_INTERVAL, count * _LATER_SECONDS_EACH)
            self._count_later_at = self._clock.steady() + pause
        return depths

    def pause(self, counts: Depths | None) -> float:
        """Return the seconds until the next step."""
        return self._settings.interval if counts else min(self._settings.interval, _LEADER_CHECK)

    async def _of_status(self, *statuses: RequestStatus) -> dict[RequestStatus, Depth]:
        limit = self._settings.limit
        return {status: await self._requests.depth(status, limit=limit) for status in statuses}

    async def _in_lanes(self, *, later: bool) -> dict[RequestStatus, Depth] | None:
        """Return the counts of all lanes by status, or None if the table has no DueIndex."""
        now = self._clock.now()
        lanes = []
        for lane in Lane:
            depths = await self._requests.lane_depths(
                lane, now=now, later=later, limit=self._settings.limit
            )
            if depths is None:
                return None
            lanes.append(depths)
        return {status: _sum(depths[status] for depths in lanes) for status in DELAYED}

    def _emit(self, depths: Depths, *, later: bool) -> bool:
        """Emit the counts, if this worker still leads. Return whether it does."""
        if not self._membership.leads:
            return False
        for status, depth in depths.items():
            self._events.emit(
                QueueMeasured(
                    status=status,
                    count=depth.count,
                    more=depth.more,
                    oldest=self._age(depth),
                    later=later,
                )
            )
        return True

    def _age(self, depth: Depth) -> float | None:
        """Return the age of the oldest request in seconds, or None if there is none."""
        if depth.oldest is None:
            return None
        return max(0.0, (self._clock.now() - depth.oldest).total_seconds())


def _sum(depths: Iterable[Depth]) -> Depth:
    """Return the sum of the counts, with the oldest of all."""
    depths = list(depths)
    return Depth(
        count=sum(depth.count for depth in depths),
        more=any(depth.more for depth in depths),
        oldest=min((depth.oldest for depth in depths if depth.oldest is not None), default=None),
    )
