"""Counts waiting requests whose action no live worker handles. Only the leader does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from streamer_store import Candidate, Lane, RequestQueue, RequestStatus
from streamer_store.transitions import DELAYED
from streamer_worker.events import UnhandledMeasured
from streamer_worker.fleet.membership import Membership
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.runtime import Runtime
from streamer_worker.settings import DepthSettings

# After how long without a worker that lists it an action is unhandled, in seconds.
_UNHANDLED_AFTER: Final = 60.0
_PAGE_SIZE: Final = 1000


class UnhandledGauge:
    """Counts the waiting requests of each action that no live worker has listed for a minute.

    The poller finds such actions. The indexes are read only while there are any, up to
    `depth.limit` entries of each status or lane.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        seen_requests: SeenRequests,
        membership: Membership,
        settings: DepthSettings,
        runtime: Runtime,
    ) -> None:
        self._requests = requests
        self._seen_requests = seen_requests
        self._membership = membership
        self._settings = settings
        self._events = runtime.events
        self._clock = runtime.clock

    async def step(self) -> Mapping[str, int] | None:
        """Count the waiting requests, emit UnhandledMeasured, and return the counts by action.

        Returns None if this worker does not lead, or stops leading while it counts.
        """
        if not self._membership.leads:
            return None
        actions = self._unhandled()
        counts = await self._count(actions) if actions else Counter[str]()
        if not self._membership.leads:
            return None
        for action in actions - counts.keys():
            self._seen_requests.forget_unknown_action(action)
        self._events.emit(UnhandledMeasured(counts=dict(counts)))
        return counts

    def pause(self, _: object) -> float:
        """Return the seconds until the next count."""
        return self._settings.interval

    def _unhandled(self) -> set[str]:
        """Return the actions that no live worker has listed for a minute."""
        fleet, now = self._membership.view, self._clock.steady()
        unhandled = set()
        for action, since in self._seen_requests.unknown_actions():
            if fleet.knows(action):
                self._seen_requests.forget_unknown_action(action)
            elif now - max(since, fleet.listed.get(action, since)) >= _UNHANDLED_AFTER:
                unhandled.add(action)
        return unhandled

    async def _count(self, actions: Collection[str]) -> Counter[str]:
        """Return how many requests of each of the actions wait.

        With a DueIndex, those that wait for a later time are not counted.
        """
        counts = await self._count_status(RequestStatus.PENDING, actions)
        for lane in Lane:
            in_lane = await self._count_lane(lane, actions)
            if in_lane is None:
                for status in DELAYED:
                    counts += await self._count_status(status, actions)
                break
            counts += in_lane
        return counts

    async def _count_status(self, status: RequestStatus, actions: Collection[str]) -> Counter[str]:
        counts: Counter[str] = Counter()
        cursor, left = None, self._settings.limit
        while left > 0:
            page = await self._requests.entries(status, limit=min(left, _PAGE_SIZE), cursor=cursor)
            counts += _of_actions(page.candidates, actions)
            cursor, left = page.cursor, left - len(page.candidates)
            if cursor is None:
                break
        return counts

    async def _count_lane(self, lane: Lane, actions: Collection[str]) -> Counter[str] | None:
        """Count those that are not PENDING. Return None if the table has no DueIndex."""
        counts: Counter[str] = Counter()
        until = self._clock.now()
        cursor, left = None, self._settings.limit
        while left > 0:
            page = await self._requests.due_entries(
                lane, until=until, limit=min(left, _PAGE_SIZE), cursor=cursor
            )
            if page is None:
                return None
            delayed = [entry for entry in page.candidates if entry.status in DELAYED]
            counts += _of_actions(delayed, actions)
            cursor, left = page.cursor, left - len(page.candidates)
            if cursor is None:
                break
        return counts


def _of_actions(candidates: Iterable[Candidate], actions: Collection[str]) -> Counter[str]:
    return Counter(
        candidate.action
        for candidate in candidates
        if candidate.action is not None and candidate.action in actions
    )
