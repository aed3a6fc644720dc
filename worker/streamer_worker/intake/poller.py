"""Finding waiting requests, and choosing which to claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyio.streams.memory import MemoryObjectSendStream
from cachetools import LRUCache

from streamer_store import Candidate, Clock, RequestQueue, RequestStatus
from streamer_store.rescues import is_suspect
from streamer_store.transitions import WAITING
from streamer_worker.events import ActionUnknown, Events, Polled
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.backlog import Backlog
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.limits import Limits
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.selection import RankedCandidate, choose
from streamer_worker.intake.slots import Assignment, Slots
from streamer_worker.retry import backoff
from streamer_worker.settings import PollSettings

if TYPE_CHECKING:
    import random


_PER_SLOT = 4
_LEAST = 100
_MOST = 1000
_ROVED_PER_SECOND = 1000
_TENANTS = 10_000
_LAST_RANK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PollCounts:
    """`more`: the cursor goes over what it has not seen since something changed."""

    candidates: int
    claimed: int
    more: bool = False


class Poller:
    """Fills free slots with waiting requests.

    It looks at the first page of each status and at one page further on, at a cursor that
    roves to the end and starts again, so that a head that cannot run never hides the rest.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        requests: RequestQueue,
        claimer: Claimer,
        assignments: MemoryObjectSendStream[Assignment],
        seen_requests: SeenRequests,
        slots: Slots,
        limits: Limits,
        fleet: Callable[[], FleetView],
        lease_is_safe: Callable[[], bool],
        settings: PollSettings,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._worker_id = worker_id
        self._requests = requests
        self._claimer = claimer
        self._assignments = assignments
        self._seen_requests = seen_requests
        self._slots = slots
        self._limits = limits
        self._fleet = fleet
        self._lease_is_safe = lease_is_safe
        self._settings = settings
        self._events = events
        self._clock = clock
        self._rng = rng
        self._cursors: dict[RequestStatus, Any] = dict.fromkeys(WAITING)
        self._news = True
        self._toured: set[RequestStatus] = set()
        self._roved: dict[RequestStatus, float] = dict.fromkeys(WAITING, -math.inf)
        self._backlog = Backlog()
        self._served: LRUCache[str | None, int] = LRUCache(_TENANTS)
        self._turn = 0
        self._pauses: Iterator[float] | None = None

    async def step(self) -> PollCounts:
        """Wait for a free slot, look once, claim what fits; return how much was found.

        While our beats fail nothing is claimed: it might be taken from us the next moment.
        """
        await self._slots.wait_free()
        if not self._lease_is_safe():
            self._events.emit(Polled(outcome="skipped", seconds=0.0, candidates=0, claimed=0))
            return PollCounts(candidates=0, claimed=0)
        began = self._clock.steady()
        found = self._eligible(self._with_backlog(await self._look()))
        chosen = choose(found, self._limits.room(), self._last_served)
        self._remember(found)
        for candidate in chosen:
            self._turn += 1
            self._served[candidate.tenant_id] = self._turn
            self._backlog.discard(candidate)
        claimed = await self._claimer.claim_all(chosen, self._assignments.send_nowait)
        self._events.emit(
            Polled(
                outcome="claimed" if claimed else "empty",
                seconds=self._clock.steady() - began,
                candidates=len(found),
                claimed=claimed,
            )
        )
        under_way = any(cursor is not None for cursor in self._cursors.values())
        self._news = bool(claimed) or (self._news and under_way)
        return PollCounts(candidates=len(found), claimed=claimed, more=self._news and under_way)

    def pause(self, counts: PollCounts) -> float:
        """Return how long to wait before the next look: not at all while there is work. Once
        over all that waits, in vain, is enough: then a cursor on its way is no reason to hasten.
        """
        if counts.claimed:
            self._pauses = None
            return 0.0
        if self._pauses is None or counts.more:
            self._pauses = backoff(
                self._settings.min_interval, self._settings.max_interval, self._rng
            )
        pause = next(self._pauses)
        next_due = self._seen_requests.next_due()
        # A retry is awaited to the moment; one whose time has come is there at the next look.
        return (
            pause
            if next_due is None
            else min(pause, max(next_due, self._settings.min_interval / 2))
        )

    async def _look(self) -> list[Candidate]:
        """Return the due requests on the pages of this look, and the kept ones, each once."""
        workers = max(1, len(self._fleet().live))
        limit = min(_MOST, max(_LEAST, _PER_SLOT * workers * self._slots.free))
        found: dict[str, Candidate] = {}
        for status in WAITING:
            for candidate in await self._pages(status, limit):
                found.setdefault(candidate.request_id, candidate)
        now = self._clock.now()
        due = []
        for candidate in found.values():
            if candidate.due(now):
                due.append(candidate)
            elif self._is_ours(candidate):
                self._seen_requests.defer(candidate)
        kept = self._seen_requests.due(self._is_ours)
        return due + [each for each in kept if each.request_id not in found]

    def _is_ours(self, candidate: Candidate) -> bool:
        """Whether this worker is its home. The index shows what others leave behind."""
        action = candidate.action
        return (
            action is not None
            and self._limits.knows(action)
            and self._fleet().is_home(self._worker_id, candidate.request_id, action)
        )

    async def _pages(self, status: RequestStatus, limit: int) -> list[Candidate]:
        first = await self._requests.entries(status, limit=limit)
        if first.cursor is None:
            self._cursors[status] = None
            return list(first.candidates)
        cursor = self._cursors[status] or first.cursor
        further = await self._requests.entries(
            status, limit=self._further_limit(status, limit), cursor=cursor
        )
        self._cursors[status] = further.cursor
        if further.cursor is None:
            self._toured.add(status)
        return [*first.candidates, *further.candidates]

    def _further_limit(self, status: RequestStatus, limit: int) -> int:
        """Return the size of the page at the roving cursor.

        1. On its first tour the cursor takes the largest steps: until then a tenant whose
           requests are further on has no turns.
        2. So it does while there is nothing to claim: then looks are rare.
        3. Otherwise it covers 1,000 entries a second at least, however few looks there are.
        """
        now = self._clock.steady()
        since, self._roved[status] = now - self._roved[status], now
        if status not in self._toured or not self._news:
            return _MOST
        return min(_MOST, max(limit, int(min(since, 1) * _ROVED_PER_SECOND)))

    def _with_backlog(self, seen: list[Candidate]) -> list[Candidate]:
        """Add what was seen earlier: first the tenants that were served longest ago."""
        at_most = max(_LEAST, _PER_SLOT * self._slots.free)
        heads = self._backlog.heads(at_most, self._last_served)
        ids = {candidate.request_id for candidate in seen}
        return seen + [candidate for candidate in heads if candidate.request_id not in ids]

    def _remember(self, found: list[RankedCandidate]) -> None:
        """Keep our own requests for later looks. Suspects wait for a place, not for a turn."""
        for each in found:
            if each.rank == 0 and not each.suspect:
                self._backlog.add(each.candidate)

    def _eligible(self, candidates: list[Candidate]) -> list[RankedCandidate]:
        fleet = self._fleet()
        found = []
        for candidate in candidates:
            if self._seen_requests.is_lost(candidate) or self._slots.holds(candidate.request_id):
                self._backlog.discard(candidate)
                continue
            if self._may_take(candidate, fleet):
                rank = fleet.rank(self._worker_id, candidate.request_id, candidate.action)
                suspect = is_suspect(self._seen_requests.rescues_of(candidate))
                # Those next in line wait a little longer each, so that they do not collide.
                # A suspect runs in any free place, so its home has no more than a head start.
                turns = min(rank, 1 if suspect else _LAST_RANK)
                if self._seen_requests.seen_for(candidate) >= turns * self._settings.steal_delay:
                    again = self._seen_requests.has_failed(candidate)
                    found.append(
                        RankedCandidate(
                            candidate=candidate, rank=rank, again=again, suspect=suspect
                        )
                    )
        self._rng.shuffle(found)
        return found

    def _may_take(self, candidate: Candidate, fleet: FleetView) -> bool:
        """Whether it is for us: our action, or one that nobody has known for a while."""
        action = candidate.action
        if action is None or candidate.broken:
            return True  # it fails when it is claimed
        if self._limits.knows(action):
            return True
        seen_for = self._seen_requests.seen_for(candidate)
        if fleet.knows(action):
            self._seen_requests.known(action)
            return False
        if self._seen_requests.is_new(action):
            self._events.emit(ActionUnknown(action=action))
        unlisted_for = self._clock.steady() - fleet.listed.get(action, -math.inf)
        return min(seen_for, unlisted_for) >= self._settings.unknown_action_timeout

    def _last_served(self, tenant: str | None) -> int:
        return self._served.get(tenant, 0)
