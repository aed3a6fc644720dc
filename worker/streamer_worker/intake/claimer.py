"""Claiming, and handing over what was won."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import anyio
from cachetools import LRUCache

from streamer_store import (
    AsyncRequest,
    Candidate,
    Claim,
    ClaimLost,
    Clock,
    ConcurrentModification,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    RequestQueue,
    StoreError,
    Undecodable,
)
from streamer_store.clock import new_id
from streamer_store.rescues import is_suspect
from streamer_store.schema import REQUESTS
from streamer_store.values import AttributeValue
from streamer_worker.concurrency.deadlines import ShieldedDeadline
from streamer_worker.error_codes import INVALID_REQUEST, ITEM_TOO_LARGE
from streamer_worker.events import ClaimReleased, ClaimTried, Events, ItemUndecodable
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.slots import Assignment, Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.sanitize import sanitized

if TYPE_CHECKING:
    import random

_ANSWER_WITHIN: Final = 5.0
_REMEMBERED: Final = 1000
_LAST: Final = 100
_POSTPONED: Final = (30.0, 60.0)


class Claimer:
    """Claims under Versions that it chooses, and remembers those of which nobody answered
    whether they were won: such a request is ours, was never run, and goes back as it was.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        requests: RequestQueue,
        slots: Slots,
        seen_requests: SeenRequests,
        probation: Probation,
        announcer: Announcer,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._worker_id = worker_id
        self._requests = requests
        self._slots = slots
        self._seen_requests = seen_requests
        self._probation = probation
        self._announcer = announcer
        self._events = events
        self._clock = clock
        self._rng = rng
        self._patience = ShieldedDeadline(_ANSWER_WITHIN)
        self._unanswered: LRUCache[str, Claim] = LRUCache(_REMEMBERED)

    async def claim_all(
        self, candidates: Iterable[Candidate], hand_over: Callable[[Assignment], object]
    ) -> int:
        """Claim each, hand over what was won, and return how many that are."""
        won: list[Assignment] = []
        async with anyio.create_task_group() as tasks:
            for candidate in candidates:
                self._seen_requests.tried(candidate)
                tasks.start_soon(self._claim_one, candidate, hand_over, won)
        return len(won)

    def tighten(self, seconds: float) -> None:
        """Give the claims under way this long at most."""
        self._patience.tighten(seconds)

    def unanswered(self, version: AttributeValue | None) -> Claim | None:
        """Return the claim that this Version is of, when it was never answered."""
        return self._unanswered.get((version or {}).get("S", ""))

    async def give_back(self, claim: Claim) -> bool:
        """Release a claim that was not answered; whether it had been won."""
        try:
            await self._requests.release(claim)
        except ClaimLost:
            return False
        self._events.emit(ClaimReleased(request_id=claim.request_id))
        return True

    async def give_back_all(self) -> None:
        """Release what may have been won lately; of older ones the sweeps have taken care.
        Raises what the store raises.
        """
        async with anyio.create_task_group() as tasks:
            for claim in list(self._unanswered.values())[-_LAST:]:
                tasks.start_soon(self.give_back, claim)

    async def _claim_one(
        self,
        candidate: Candidate,
        hand_over: Callable[[Assignment], object],
        won: list[Assignment],
    ) -> None:
        slot = self._slots.take(
            candidate.request_id, action=candidate.action, tenant_id=candidate.tenant_id
        )
        handed_over = False
        try:
            rescues = self._seen_requests.rescues_of(candidate)
            self._probation.enter(slot, rescues)
            claim = await self._try_claim(candidate, alone=is_suspect(rescues))
            if claim is not None:
                self._probation.enter(slot, claim.request.rescues)
                won.append(Assignment(claim, slot))
                hand_over(won[-1])
                handed_over = True
        finally:
            if not handed_over:
                self._slots.give(slot)

    async def _try_claim(self, candidate: Candidate, *, alone: bool) -> Claim | None:
        claim = None
        version = new_id(self._rng)
        outcome = "error"
        waited = None
        error: StoreError | None = None
        answered = False
        try:
            # Once sent, a claim is awaited: cancelled, it would be one more without an answer.
            with self._patience.scope():
                won = await self._requests.claim(
                    candidate, worker_id=self._worker_id, version=version, alone=alone
                )
                if await self._postponed(won, alone=alone):
                    outcome = "postponed"
                else:
                    claim, outcome, waited = won, "won", self._waited(candidate)
                answered = True
        except (RequestNotPending, ConcurrentModification, NotFound):
            outcome, answered = "lost", True
            if candidate.due(self._clock.now()):
                self._seen_requests.mark_lost(candidate)
        except (Undecodable, ItemTooLarge) as refused:
            error, answered = refused, True
            self._seen_requests.mark_lost(candidate)
            await self._tell_refused(candidate, refused)
        except StoreError as failed:
            error = failed
            self._seen_requests.mark_failed(candidate)
        finally:
            if not answered:
                self._unanswered[version] = _handle(candidate, version)
        self._events.emit(
            ClaimTried(
                request_id=candidate.request_id,
                action=candidate.action,
                outcome=outcome,
                waited=waited,
                error=error,
            )
        )
        return claim

    async def _postponed(self, claim: Claim, *, alone: bool) -> bool:
        """Give back a suspect that only its claim has shown to be one: StatusIndex does not
        project Rescues. It comes back at once when it can be in probation, and later otherwise.
        """
        rescues = claim.request.rescues
        self._seen_requests.note_rescues(claim.request_id, rescues)
        if alone or not is_suspect(rescues):
            return False
        wait = 0.0 if self._probation.is_free else self._rng.uniform(*_POSTPONED)
        await self._requests.retry(claim, timedelta(seconds=wait), counts=False)
        return True

    def _waited(self, candidate: Candidate) -> float | None:
        """Return for how long it could have been claimed, by this machine's clock."""
        times = [each for each in (candidate.created_at, candidate.retry_after) if each is not None]
        if not times:
            return None
        return max(0.0, (self._clock.now() - max(times)).total_seconds())

    async def _tell_refused(self, candidate: Candidate, error: Undecodable | ItemTooLarge) -> None:
        broken = isinstance(error, Undecodable)
        reason = error.reason if isinstance(error, Undecodable) else error.message
        await self._announcer.failed_in_table(
            self._requests,
            candidate.request_id,
            code=INVALID_REQUEST if broken else ITEM_TOO_LARGE,
            text=sanitized(str(error)),
        )
        self._events.emit(
            ItemUndecodable(table=REQUESTS.name, key=candidate.request_id, reason=reason)
        )


def _handle(candidate: Candidate, version: str) -> Claim:
    """Return what releases the request, if the claim was won."""
    request = AsyncRequest(action=candidate.action or "unknown", request_id=candidate.request_id)
    return Claim(request=request, version=version)
