"""Claiming, and handing over what was won."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from streamer_store import (
    AccessDenied,
    Candidate,
    Clock,
    ConcurrentModification,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    RequestQueue,
    StoreError,
    StoreUnavailable,
    TableMissing,
    Undecodable,
)
from streamer_store.clock import new_id
from streamer_store.schema import REQUESTS
from streamer_worker.events import ClaimTried, Events, ItemUndecodable, StepFailed
from streamer_worker.patience import Patience
from streamer_worker.retry import backoff
from streamer_worker.settle import PATIENCE
from streamer_worker.sightings import Sightings
from streamer_worker.slots import Assignment, Slot, Slots

if TYPE_CHECKING:
    import random

_ANSWER_WITHIN: Final = 2.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class _Answer(StrEnum):
    WON = "won"
    LOST = "lost"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Claimer:
    """Claims under a Version that it chooses, so that it can ask again when it was not told
    whether it won: a claim that nobody knows of would be a lost attempt.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        requests: RequestQueue,
        assignments: MemoryObjectSendStream[Assignment],
        slots: Slots,
        sightings: Sightings,
        is_sound: Callable[[], bool],
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._worker_id = worker_id
        self._requests = requests
        self._assignments = assignments
        self._slots = slots
        self._sightings = sightings
        self._is_sound = is_sound
        self._events = events
        self._clock = clock
        self._rng = rng
        self._patience = Patience(PATIENCE)

    async def claim_all(self, candidates: Iterable[Candidate], tasks: TaskGroup) -> int:
        """Claim each and return how many were won. Those of which nobody knows are asked for
        again, in `tasks`.
        """
        won: list[str] = []
        async with anyio.create_task_group() as claims:
            for candidate in candidates:
                self._sightings.tried(candidate)
                claims.start_soon(self._claim_one, candidate, won, tasks)
        return len(won)

    def hurry(self, seconds: float) -> None:
        """Give the claims under way this long at most."""
        self._patience.hurry(seconds)

    async def _claim_one(self, candidate: Candidate, won: list[str], tasks: TaskGroup) -> None:
        slot = self._slots.take(
            candidate.request_id, action=candidate.action, tenant_id=candidate.tenant_id
        )
        version = new_id(self._rng)
        answer = _Answer.UNKNOWN
        try:
            # Once sent, a claim is awaited: an answer that nobody hears is a lost request.
            with self._patience.scope():
                answer = await self._try(candidate, slot, version)
        finally:
            if answer is _Answer.UNKNOWN:
                tasks.start_soon(self._insist, candidate, slot, version)
        if answer is _Answer.WON:
            won.append(candidate.request_id)

    async def _insist(self, candidate: Candidate, slot: Slot, version: str) -> None:
        """Ask until there is an answer, or no time is left; the slot is taken meanwhile."""
        answer = _Answer.UNKNOWN
        try:
            with self._patience.scope():
                for pause in backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng):
                    await anyio.sleep(pause)
                    # While our beats fail it might be taken from us the next moment.
                    if self._is_sound():
                        answer = await self._try(candidate, slot, version)
                    if answer is not _Answer.UNKNOWN:
                        break
        except Exception as error:  # noqa: BLE001  no claim ends the daemon
            self._events.emit(StepFailed(loop="claim", error=error))
        finally:
            if answer is _Answer.UNKNOWN:
                self._slots.give(slot)

    async def _try(self, candidate: Candidate, slot: Slot, version: str) -> _Answer:
        """Send the claim once; unless the answer is unknown, the slot is passed on or given."""
        answer = _Answer.UNKNOWN
        error: Exception | None = None
        try:
            with anyio.fail_after(_ANSWER_WITHIN):
                claim = await self._requests.claim(
                    candidate, worker_id=self._worker_id, version=version
                )
            answer = _Answer.WON
            self._assignments.send_nowait(Assignment(claim, slot))
        except (RequestNotPending, ConcurrentModification, NotFound):
            answer = _Answer.LOST
            if candidate.due(self._clock.now()):
                self._sightings.lose(candidate)
        except (Undecodable, ItemTooLarge) as refused:
            answer, error = _Answer.REFUSED, refused
            self._sightings.lose(candidate)
            self._tell_undecodable(candidate, refused)
        except (StoreUnavailable, AccessDenied, TableMissing, TimeoutError) as failed:
            error = failed
            self._sightings.fail(candidate)
        except StoreError as failed:
            answer, error = _Answer.REFUSED, failed
            self._sightings.fail(candidate)
        finally:
            if answer in {_Answer.LOST, _Answer.REFUSED}:
                self._slots.give(slot)
        outcome = answer if error is None else "error"
        self._events.emit(ClaimTried(request_id=candidate.request_id, outcome=outcome, error=error))
        return answer

    def _tell_undecodable(self, candidate: Candidate, error: Undecodable | ItemTooLarge) -> None:
        reason = error.reason if isinstance(error, Undecodable) else error.message
        self._events.emit(
            ItemUndecodable(table=REQUESTS.name, key=candidate.request_id, reason=reason)
        )
