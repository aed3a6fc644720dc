"""Finding waiting requests, claiming them, handing them over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
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
from streamer_worker.events import ClaimTried, Events, ItemUndecodable, Polled
from streamer_worker.retry import backoff
from streamer_worker.settings import PollSettings
from streamer_worker.slots import Slots

if TYPE_CHECKING:
    import random

WAITING: Final = (RequestStatus.PENDING, RequestStatus.RETRYING)
_PER_SLOT = 4
_LEAST = 10
_MOST = 1000
_REMEMBERED = 10_000
_CLAIM_PATIENCE = 60.0
_UNKNOWN = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollCounts:
    candidates: int
    claimed: int


class Poller:
    """Fills free slots with waiting requests, oldest first.

    It looks at the first page of each status and at one page further on, at a cursor that
    roves to the end and starts again, so that a head that cannot run never hides the rest.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        claims: MemoryObjectSendStream[Claim],
        slots: Slots,
        worker_id: str,
        settings: PollSettings,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._requests = requests
        self._claims = claims
        self._slots = slots
        self._worker_id = worker_id
        self._settings = settings
        self._events = events
        self._clock = clock
        self._rng = rng
        self._cursors: dict[RequestStatus, Any] = dict.fromkeys(WAITING)
        # A request whose claim failed is not tried again until its Version changes.
        self._missed: LRUCache[tuple[str, str], None] = LRUCache(_REMEMBERED)
        # One whose claim met an error is tried again, after those that did not.
        self._failed: LRUCache[tuple[str, str], None] = LRUCache(_REMEMBERED)
        self._pauses: Iterator[float] | None = None
        self._claiming: set[anyio.CancelScope] = set()

    async def step(self) -> PollCounts:
        """Wait for a free slot, look once, claim what fits; return how much was found."""
        await self._slots.wait_free()
        began = self._clock.steady()
        candidates = await self._look()
        claimed = await self._claim_all(candidates[: self._slots.free])
        self._events.emit(
            Polled(
                outcome="claimed" if claimed else "empty",
                seconds=self._clock.steady() - began,
                candidates=len(candidates),
                claimed=claimed,
            )
        )
        return PollCounts(candidates=len(candidates), claimed=claimed)

    def pause(self, counts: PollCounts) -> float:
        """Return how long to wait before the next look: not at all while there is work."""
        if counts.claimed:
            self._pauses = None
            return 0.0
        if self._pauses is None:
            self._pauses = backoff(self._settings.fastest, self._settings.slowest, self._rng)
        return next(self._pauses)

    def hurry(self, seconds: float) -> None:
        """Give the claims under way this long at most."""
        latest = anyio.current_time() + seconds
        for scope in self._claiming:
            scope.deadline = min(scope.deadline, latest)

    async def _look(self) -> list[Candidate]:
        limit = min(_MOST, max(_LEAST, _PER_SLOT * self._slots.free))
        now = self._clock.now()
        found: dict[str, Candidate] = {}
        for status in WAITING:
            for candidate in await self._pages(status, limit):
                if candidate.due(now) and _key(candidate) not in self._missed:
                    found.setdefault(candidate.request_id, candidate)
        return sorted(found.values(), key=self._turn)

    def _turn(self, candidate: Candidate) -> tuple[bool, datetime]:
        # A retry is as old as its request: a steady stream of new ones does not keep it waiting.
        return _key(candidate) in self._failed, candidate.created_at or _UNKNOWN

    async def _pages(self, status: RequestStatus, limit: int) -> list[Candidate]:
        first = await self._requests.waiting(status, limit=limit)
        if first.cursor is None:
            self._cursors[status] = None
            return list(first.candidates)
        cursor = self._cursors[status] or first.cursor
        further = await self._requests.waiting(status, limit=limit, cursor=cursor)
        self._cursors[status] = further.cursor
        return [*first.candidates, *further.candidates]

    async def _claim_all(self, candidates: list[Candidate]) -> int:
        won: list[Claim] = []
        async with anyio.create_task_group() as tasks:
            for candidate in candidates:
                self._slots.take()
                tasks.start_soon(self._claim_one, candidate, won)
        return len(won)

    async def _claim_one(self, candidate: Candidate, won: list[Claim]) -> None:
        handed_over = False
        try:
            claim = await self._try_claim(candidate)
            if claim is not None:
                won.append(claim)
                self._claims.send_nowait(claim)
                handed_over = True
        finally:
            if not handed_over:
                self._slots.give()

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
            self._missed[_key(candidate)] = None
            outcome = "lost"
        except (Undecodable, ItemTooLarge) as refused:
            self._missed[_key(candidate)] = None
            error = refused
            self._tell_undecodable(candidate, refused)
        except StoreError as failed:
            self._failed[_key(candidate)] = None
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


def _key(candidate: Candidate) -> tuple[str, str]:
    return candidate.request_id, repr(candidate.seen_version)
