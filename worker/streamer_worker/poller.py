"""Finding waiting requests, claiming them, handing them over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from cachetools import LRUCache

from streamer_store import (
    Candidate,
    Claim,
    Clock,
    ConcurrentModification,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    RequestQueue,
    RequestStatus,
    StoreError,
    Undecodable,
)
from streamer_store.schema import REQUESTS
from streamer_worker.events import ActionUnknown, ClaimTried, Events, ItemUndecodable, Polled
from streamer_worker.fleet import FleetView
from streamer_worker.limits import Limits
from streamer_worker.retry import backoff
from streamer_worker.settings import PollSettings
from streamer_worker.sightings import Sightings
from streamer_worker.slots import Assignment, Slots
from streamer_worker.turns import Found, choose

if TYPE_CHECKING:
    import random

WAITING: Final = (RequestStatus.PENDING, RequestStatus.RETRYING)
_PER_SLOT = 4
_LEAST = 100
_MOST = 1000
_TENANTS = 10_000
_CLAIM_PATIENCE = 60.0
_LAST_RANK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PollCounts:
    """`more`: the cursor is on its way, so that there may be work that was not seen yet."""

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
        assignments: MemoryObjectSendStream[Assignment],
        slots: Slots,
        limits: Limits,
        fleet: Callable[[], FleetView],
        is_sound: Callable[[], bool],
        settings: PollSettings,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._worker_id = worker_id
        self._requests = requests
        self._assignments = assignments
        self._slots = slots
        self._limits = limits
        self._fleet = fleet
        self._is_sound = is_sound
        self._settings = settings
        self._events = events
        self._clock = clock
        self._rng = rng
        self._cursors: dict[RequestStatus, Any] = dict.fromkeys(WAITING)
        self._sightings = Sightings(clock=clock)
        self._served: LRUCache[str | None, int] = LRUCache(_TENANTS)
        self._turn = 0
        self._pauses: Iterator[float] | None = None
        self._claiming: set[anyio.CancelScope] = set()

    async def step(self) -> PollCounts:
        """Wait for a free slot, look once, claim what fits; return how much was found.

        While our beats fail nothing is claimed: it might be taken from us the next moment.
        """
        await self._slots.wait_free()
        if not self._is_sound():
            return PollCounts(candidates=0, claimed=0)
        began = self._clock.steady()
        found = self._eligible(await self._look())
        claimed = await self._claim_all(choose(found, self._limits.room(), self._last_served))
        self._events.emit(
            Polled(
                outcome="claimed" if claimed else "empty",
                seconds=self._clock.steady() - began,
                candidates=len(found),
                claimed=claimed,
            )
        )
        more = any(cursor is not None for cursor in self._cursors.values())
        return PollCounts(candidates=len(found), claimed=claimed, more=more)

    def pause(self, counts: PollCounts) -> float:
        """Return how long to wait before the next look: not at all while there is work."""
        if counts.claimed:
            self._pauses = None
            return 0.0
        if self._pauses is None or counts.more:
            self._pauses = backoff(self._settings.fastest, self._settings.slowest, self._rng)
        pause = next(self._pauses)
        next_due = self._sightings.next_due()
        # A retry is awaited to the moment; one whose time has come is there at the next look.
        return pause if next_due is None else min(pause, max(next_due, self._settings.fastest / 2))

    def hurry(self, seconds: float) -> None:
        """Give the claims under way this long at most."""
        latest = anyio.current_time() + seconds
        for scope in self._claiming:
            scope.deadline = min(scope.deadline, latest)

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
                self._sightings.keep(candidate)
        kept = self._sightings.due(self._is_ours)
        return due + [each for each in kept if each.request_id not in found]

    def _is_ours(self, candidate: Candidate) -> bool:
        """Whether this worker is its home. The index shows what others leave behind."""
        action = candidate.action
        return (
            action is not None
            and self._limits.knows(action)
            and self._fleet().rank(self._worker_id, candidate.request_id, action) == 0
        )

    async def _pages(self, status: RequestStatus, limit: int) -> list[Candidate]:
        first = await self._requests.entries(status, limit=limit)
        if first.cursor is None:
            self._cursors[status] = None
            return list(first.candidates)
        cursor = self._cursors[status] or first.cursor
        further = await self._requests.entries(status, limit=limit, cursor=cursor)
        self._cursors[status] = further.cursor
        return [*first.candidates, *further.candidates]

    def _eligible(self, candidates: list[Candidate]) -> list[Found]:
        fleet = self._fleet()
        found = []
        for candidate in candidates:
            if self._sightings.is_lost(candidate) or self._slots.holds(candidate.request_id):
                continue
            if self._may_take(candidate, fleet):
                rank = fleet.rank(self._worker_id, candidate.request_id, candidate.action)
                # Those next in line wait a little longer each, so that they do not collide.
                patience = min(rank, _LAST_RANK) * self._settings.steal_after
                if self._sightings.seen_for(candidate) >= patience:
                    again = self._sightings.has_failed(candidate)
                    found.append(Found(candidate=candidate, rank=rank, again=again))
        self._rng.shuffle(found)
        return found

    def _may_take(self, candidate: Candidate, fleet: FleetView) -> bool:
        """Whether it is for us: our action, or one that nobody has known for a while."""
        action = candidate.action
        if action is None or candidate.broken:
            return True  # it fails when it is claimed
        if self._limits.knows(action):
            return True
        if fleet.knows(action):
            self._sightings.known(action)
            return False
        waited = self._sightings.unknown_for(action)
        if waited is None:
            self._events.emit(ActionUnknown(action=action))
            return False
        return waited >= self._settings.unknown_after

    def _last_served(self, tenant: str | None) -> int:
        return self._served.get(tenant, 0)

    async def _claim_all(self, candidates: list[Candidate]) -> int:
        won: list[Claim] = []
        async with anyio.create_task_group() as tasks:
            for candidate in candidates:
                self._turn += 1
                self._served[candidate.tenant_id] = self._turn
                self._sightings.tried(candidate)
                tasks.start_soon(self._claim_one, candidate, won)
        return len(won)

    async def _claim_one(self, candidate: Candidate, won: list[Claim]) -> None:
        slot = self._slots.take(
            candidate.request_id, action=candidate.action, tenant_id=candidate.tenant_id
        )
        handed_over = False
        try:
            claim = await self._try_claim(candidate)
            if claim is not None:
                won.append(claim)
                self._assignments.send_nowait(Assignment(claim, slot))
                handed_over = True
        finally:
            if not handed_over:
                self._slots.give(slot)

    async def _try_claim(self, candidate: Candidate) -> Claim | None:
        claim = None
        outcome = "error"
        error: StoreError | None = None
        # Once sent, a claim is awaited: an answer that nobody hears is a lost request.
        scope = anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLAIM_PATIENCE)
        self._claiming.add(scope)
        try:
            with scope:
                claim = await self._requests.claim(candidate, worker_id=self._worker_id)
                outcome = "won"
        except (RequestNotPending, ConcurrentModification, NotFound):
            self._sightings.lose(candidate)
            outcome = "lost"
        except (Undecodable, ItemTooLarge) as refused:
            self._sightings.lose(candidate)
            error = refused
            self._tell_undecodable(candidate, refused)
        except StoreError as failed:
            self._sightings.fail(candidate)
            error = failed
        finally:
            self._claiming.discard(scope)
        self._events.emit(ClaimTried(request_id=candidate.request_id, outcome=outcome, error=error))
        return claim

    def _tell_undecodable(self, candidate: Candidate, error: Undecodable | ItemTooLarge) -> None:
        reason = error.reason if isinstance(error, Undecodable) else error.message
        self._events.emit(
            ItemUndecodable(table=REQUESTS.name, key=candidate.request_id, reason=reason)
        )
