"""Waiting requests whose action no live worker handles, counted by the leader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final

from streamer_store import Clock, RequestQueue
from streamer_store.transitions import WAITING
from streamer_worker.events import Events, UnhandledMeasured
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.settings import DepthSettings

_AFTER: Final = 60.0
_PAGE: Final = 1000


class UnhandledGauge:
    """Counts what waits for each action that nobody has listed for a minute.

    The poller finds such actions. StatusIndex is read only while there are any, up to
    `depth.limit` entries of each status.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        seen_requests: SeenRequests,
        fleet: Callable[[], FleetView],
        settings: DepthSettings,
        events: Events,
        clock: Clock,
    ) -> None:
        self._requests = requests
        self._seen_requests = seen_requests
        self._fleet = fleet
        self._settings = settings
        self._events = events
        self._clock = clock

    async def step(self) -> Mapping[str, int] | None:
        """Count, and return the waiting requests by action; None when this worker does not lead."""
        if not self._fleet().leads:
            return None
        actions = self._unhandled()
        counts = await self._count(actions) if actions else Counter[str]()
        if not self._fleet().leads:
            return None
        for action in actions - counts.keys():
            self._seen_requests.known(action)
        self._events.emit(UnhandledMeasured(counts=dict(counts)))
        return counts

    def pause(self, _: object) -> float:
        """Return the seconds until the next count."""
        return self._settings.interval

    def _unhandled(self) -> set[str]:
        fleet, now = self._fleet(), self._clock.steady()
        found = set()
        for action, since in self._seen_requests.unknown_actions():
            if fleet.knows(action):
                self._seen_requests.known(action)
            elif now - max(since, fleet.listed.get(action, since)) >= _AFTER:
                found.add(action)
        return found

    async def _count(self, actions: Collection[str]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for status in WAITING:
            cursor, left = None, self._settings.limit
            while left > 0:
                page = await self._requests.entries(status, limit=min(left, _PAGE), cursor=cursor)
                counts.update(
                    each.action
                    for each in page.candidates
                    if each.action is not None and each.action in actions
                )
                cursor, left = page.cursor, left - len(page.candidates)
                if cursor is None:
                    break
        return counts
