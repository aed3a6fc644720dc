"""Counts the requests that wait and that run. Only the leader does."""

from __future__ import annotations

from typing import Final

from streamer_store import Depth, RequestQueue, RequestStatus
from streamer_worker.events import QueueMeasured
from streamer_worker.fleet.membership import Membership
from streamer_worker.runtime import Runtime
from streamer_worker.settings import DepthSettings

# How soon a worker that does not lead checks again whether it does, in seconds.
_LEADER_CHECK: Final = 5.0
_COUNTED: Final = (RequestStatus.PENDING, RequestStatus.RETRYING, RequestStatus.PROCESSING)


class DepthGauge:
    """Measures StatusIndex. Only the leader does, because each count costs read units."""

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

    async def step(self) -> dict[RequestStatus, Depth] | None:
        """Count each status, emit QueueMeasured for it, and return the counts.

        Returns None if this worker does not lead, or stops leading while it counts. A count that
        is emitted after that would never be replaced.
        """
        if not self._membership.leads:
            return None
        depths = {}
        for status in _COUNTED:
            depth = await self._requests.depth(status, limit=self._settings.limit)
            if not self._membership.leads:
                return None
            depths[status] = depth
            self._events.emit(
                QueueMeasured(
                    status=status, count=depth.count, more=depth.more, oldest=self._age(depth)
                )
            )
        return depths

    def pause(self, counts: dict[RequestStatus, Depth] | None) -> float:
        """Return the seconds until the next step."""
        return self._settings.interval if counts else min(self._settings.interval, _LEADER_CHECK)

    def _age(self, depth: Depth) -> float | None:
        """Return the age of the oldest request in seconds, or None if there is none."""
        if depth.oldest is None:
            return None
        return max(0.0, (self._clock.now() - depth.oldest).total_seconds())
