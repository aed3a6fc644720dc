"""What the loss of a worker means for a request that it held (pure).

A crash ends every attempt that the worker held, and most of them are innocent. So a loss adds 1
to Rescues, never to RetryCount, and the request waits a backoff. After two losses the request is
a suspect: a worker runs one suspect at a time in *probation*, and only a loss within the
probation counts against the suspect alone (Solo).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from streamer_store.backoff import full_jitter
from streamer_store.models import AsyncRequest

if TYPE_CHECKING:
    import random

MAX_RESCUES: Final = 5
_SUSPECT_FROM: Final = 2
_SOLO_TO_FAIL: Final = 4
_FIRST_PROBATION: Final = timedelta(seconds=60)
_FIRST_WAIT: Final = 2.0
_LONGEST_WAIT: Final = 900.0
_MOST_DOUBLINGS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoss:
    """How a worker was lost.

    `last_seen`: the SeenAt of its last heartbeat, by its own clock; None where nobody knows it.
    `max_rescues`: the losses that a request may survive.
    """

    last_seen: datetime | None = None
    max_rescues: int = MAX_RESCUES


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """The counts that a rescue writes, and the wait before the request may run again.

    `after` is None where the request has come to its end.
    """

    rescues: int
    solo: int
    after: timedelta | None


def is_suspect(rescues: int) -> bool:
    """Whether a request with so many rescues may be what ends its workers."""
    return rescues >= _SUSPECT_FROM


def probation_of(rescues: int) -> timedelta:
    """Return the time from its start in which a suspect's attempt is in probation: a minute,
    twice as long with each rescue after the second.
    """
    doublings = min(max(0, rescues - _SUSPECT_FROM), _MOST_DOUBLINGS)
    return _FIRST_PROBATION * (1 << doublings)


def after_loss(request: AsyncRequest, loss: WorkerLoss, rng: random.Random) -> Rescued:
    """Return what the loss of its worker means for a running request.

    1. MaxRetries 0: the request must not be started again after a crash, so it ends.
    2. More than `max_rescues` rescues, the last four of them in probation: it ends.
    3. Otherwise it waits: at random up to 2 s, doubling with each rescue, at most 900 s.
    """
    rescues = request.rescues + 1
    solo = request.solo + 1 if _was_in_probation(request, loss.last_seen) else 0
    ends = request.max_retries == 0 or (rescues > loss.max_rescues and solo >= _SOLO_TO_FAIL)
    if ends:
        return Rescued(rescues=rescues, solo=solo, after=None)
    wait = full_jitter(rng, rescues, first=_FIRST_WAIT, longest=_LONGEST_WAIT)
    return Rescued(rescues=rescues, solo=solo, after=timedelta(seconds=wait))


def _was_in_probation(request: AsyncRequest, last_seen: datetime | None) -> bool:
    """Whether the worker was lost within the probation, as far as its last heartbeat tells."""
    if request.alone is None or request.alone != request.version:
        return False
    if last_seen is None or request.processing_started is None:
        return True
    return last_seen - request.processing_started < probation_of(request.rescues)
