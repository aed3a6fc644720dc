"""How much waits and runs, counted by the leader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streamer_store import Clock, Depth, RequestQueue, RequestStatus
from streamer_worker.events import Events, QueueMeasured
from streamer_worker.settings import DepthSettings

_ASK_AGAIN: Final = 5.0
_COUNTED: Final = (RequestStatus.PENDING, RequestStatus.RETRYING, RequestStatus.PROCESSING)


class DepthGauge:
    """Measures StatusIndex. One worker does it for all: reading costs, whoever reads."""

    def __init__(
        self,
        *,
        requests: RequestQueue,
        settings: DepthSettings,
        leads: Callable[[], bool],
        events: Events,
        clock: Clock,
    ) -> None:
        self._requests = requests
        self._settings = settings
        self._leads = leads
        self._events = events
        self._clock = clock

    async def step(self) -> dict[RequestStatus, Depth] | None:
        """Count each status and return the counts; None when it is not our turn."""
        if not self._leads():
            return None
        found = {}
        for status in _COUNTED:
            depth = await self._requests.depth(status, limit=self._settings.limit)
            if not self._leads():  # what somebody counted who leads no more would stand for ever
                return None
            found[status] = depth
            self._events.emit(
                QueueMeasured(
                    status=status, count=depth.count, more=depth.more, oldest=self._age(depth)
                )
            )
        return found

    def pause(self, counts: dict[RequestStatus, Depth] | None) -> float:
        return self._settings.interval if counts else min(self._settings.interval, _ASK_AGAIN)

    def _age(self, depth: Depth) -> float | None:
        if depth.oldest is None:
            return None
        return max(0.0, (self._clock.now() - depth.oldest).total_seconds())
