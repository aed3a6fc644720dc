"""Claims requests."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import anyio
from cachetools import LRUCache

from streamer_store import (
    AsyncRequest,
    Candidate,
    Claim,
    ClaimLost,
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
from streamer_worker.events import ClaimReleased, ClaimTried, ItemUndecodable
from streamer_worker.intake.pause_gate import PauseGate
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.rate_limits import RateLimits
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.slots import Assignment, Slot, Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.runtime import Runtime
from streamer_worker.sanitize import sanitized

# How long a claim that was sent waits for its answer, in seconds.
_ANSWER_TIMEOUT: Final = 5.0
_MAX_UNANSWERED: Final = 1000
# How many unanswered claims are released when the worker ends. The rescuer released older ones.
_MAX_RELEASED_AT_END: Final = 100
# The range of the delay after which a suspect without a free place runs again, in seconds.
_POSTPONED: Final = (30.0, 60.0)


class Claimer:
    """Sends claims, each under a Version that it chooses.

    If a claim gets no answer, it is unknown whether it was won. The claimer remembers its Version,
    by which the claim is recognised later. A request that was won in this way never ran, so it is
    released without counting an attempt (CLAIM-2).
    """

    def __init__(
        self,
        *,
        worker_id: str,
        requests: RequestQueue,
        slots: Slots,
        seen_requests: SeenRequests,
        probation: Probation,
        gate: PauseGate,
        rate_limits: RateLimits,
        announcer: Announcer,
        runtime: Runtime,
    ) -> None:
        self._worker_id = worker_id
        self._requests = requests
        self._slots = slots
        self._seen_requests = seen_requests
        self._probation = probation
        self._gate = gate
        self._rate_limits = rate_limits
        self._announcer = announcer
        self._events = runtime.events
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._deadline = ShieldedDeadline(_ANSWER_TIMEOUT)
        self._unanswered: LRUCache[str, Claim] = LRUCache(_MAX_UNANSWERED)

    def reserve(self, candidate: Candidate) -> Slot:
        """Take a slot for the candidate, which `claim` then has to be called for.

        CLAIM-3: before the claim is sent, so that no sweep rescues the request. RATE-2: its permits
        are used from then on.
        """
        slot = self._slots.take(
            candidate.request_id, action=candidate.action, tenant_id=candidate.tenant_id
        )
        slot.permits = self._rate_limits.take(candidate)
        self._seen_requests.mark_tried(candidate)
        self._probation.enter(slot, self._seen_requests.rescues_of(candidate))
        self._gate.reserve(candidate)
        return slot

    async def claim(self, candidate: Candidate, slot: Slot) -> Assignment | None:
        """Claim the candidate, unless it is paused by now (PAUSE-1).

        Return the claim if it was won, otherwise free the slot.
        """
        won, claim = False, None
        try:
            alone = is_suspect(self._seen_requests.rescues_of(candidate))
            if await self._gate.admit(candidate):
                claim = await self._try_claim(candidate, alone=alone)
            won = claim is not None
        finally:
            if not won:
                self._rate_limits.give_back(slot.permits)
                self._slots.give_back(slot)
        if claim is None:
            return None
        self._probation.enter(slot, claim.request.rescues)
        self._seen_requests.mark_claimed(candidate)
        return Assignment(claim, slot)

    def tighten(self, seconds: float) -> None:
        """Limit the claims in flight, and later ones, to this many seconds from now."""
        self._deadline.tighten(seconds)

    def unanswered(self, version: AttributeValue | None) -> Claim | None:
        """Return the unanswered claim that set this Version, or None."""
        return self._unanswered.get((version or {}).get("S", ""))

    async def release_unanswered(self, claim: Claim) -> bool:
        """Release an unanswered claim. Return whether it had been won.

        The request is read, because its Priority decides how it waits and StatusIndex does not
        have it.
        """
        try:
            request = await self._requests.get(claim.request_id)
        except NotFound:
            return False
        except Undecodable:
            request = claim.request  # the next claim fails it
        try:
            await self._requests.release(Claim(request=request, version=claim.version))
        except ClaimLost:
            return False
        self._events.emit(ClaimReleased(request_id=claim.request_id))
        return True

    async def release_all_unanswered(self) -> None:
        """Release the newest 100 unanswered claims: the rescuer has released the older ones.

        Raises an exception group if the store fails.
        """
        async with anyio.create_task_group() as tasks:
            for claim in list(self._unanswered.values())[-_MAX_RELEASED_AT_END:]:
                tasks.start_soon(self.release_unanswered, claim)

    async def _try_claim(self, candidate: Candidate, *, alone: bool) -> Claim | None:
        """Send one claim, emit ClaimTried, and return the claim if it may run now.

        There are four outcomes:

        1. won: returned. A suspect that was not claimed `alone` is postponed instead.
        2. lost: the request has changed. It is not tried again until its Version changes,
           unless it was merely not due.
        3. error, with an answer: the store has failed the request, and that is reported.
        4. error, without an answer: the claim may have been won, so it is remembered.
        """
        claim = None
        version = new_id(self._rng)
        outcome = "error"
        waited = None
        error: StoreError | None = None
        answered = False
        try:
            # Not cancelled once it is sent: its answer would be lost.
            with self._deadline.scope():
                won = await self._requests.claim(
                    candidate, worker_id=self._worker_id, version=version, alone=alone
                )
                if await self._postpone_suspect(won, alone=alone):
                    outcome = "postponed"
                else:
                    claim, outcome, waited = won, "won", self._seconds_waited(candidate)
                answered = True
        except (RequestNotPending, ConcurrentModification, NotFound):
            outcome, answered = "lost", True
            if candidate.due(self._clock.now()):
                self._seen_requests.mark_lost(candidate)
        except (Undecodable, ItemTooLarge) as exception:
            error, answered = exception, True
            self._seen_requests.mark_lost(candidate)
            await self._announce_failure(candidate, exception)
        except StoreError as exception:
            error = exception
            self._seen_requests.mark_failed(candidate)
        finally:
            if not answered:  # CLAIM-2: also if this task was cancelled
                self._unanswered[version] = _unanswered_claim(candidate, version)
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

    async def _postpone_suspect(self, claim: Claim, *, alone: bool) -> bool:
        """Put a claimed request back if it is a suspect and was not claimed as one (`alone`).

        That happens because StatusIndex does not project Rescues: only the claim shows them. The
        request may run again at once if the probation is free, otherwise after 30 to 60 s.
        Returns whether the request was put back.
        """
        rescues = claim.request.rescues
        self._seen_requests.note_rescues(claim.request_id, rescues)
        if alone or not is_suspect(rescues):
            return False
        wait = 0.0 if self._probation.is_free else self._rng.uniform(*_POSTPONED)
        await self._requests.retry(claim, timedelta(seconds=wait), counts=False)
        return True

    def _seconds_waited(self, candidate: Candidate) -> float | None:
        """Return the seconds since the request could first run, or None if that is unknown.

        The time was written by another machine's clock, so the result is at least 0.
        """
        times = [time for time in (candidate.created_at, candidate.retry_after) if time is not None]
        if not times:
            return None
        return max(0.0, (self._clock.now() - max(times)).total_seconds())

    async def _announce_failure(
        self, candidate: Candidate, error: Undecodable | ItemTooLarge
    ) -> None:
        """Report a request that the store has failed instead of claiming it."""
        undecodable = isinstance(error, Undecodable)
        reason = error.reason if isinstance(error, Undecodable) else error.message
        await self._announcer.failed_in_table(
            self._requests,
            candidate.request_id,
            code=INVALID_REQUEST if undecodable else ITEM_TOO_LARGE,
            text=sanitized(str(error)),
        )
        self._events.emit(
            ItemUndecodable(table=REQUESTS.name, key=candidate.request_id, reason=reason)
        )


def _unanswered_claim(candidate: Candidate, version: str) -> Claim:
    """Return a claim that can be released. The request's other attributes are not known."""
    request = AsyncRequest(action=candidate.action or "unknown", request_id=candidate.request_id)
    return Claim(request=request, version=version)
