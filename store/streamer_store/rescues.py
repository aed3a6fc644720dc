"""The decision what happens to a request whose worker was lost (pure).

A crash ends all attempts that the worker held, and most of these requests did not cause it.
Therefore:

1. A loss adds 1 to Rescues, never to RetryCount (RESCUE-4), and the request waits for a backoff.
2. After two losses the request is a *suspect*. A worker runs one suspect at a time in
   *probation*, which is the first part of its attempt (`probation_of`).
3. A loss during the probation adds 1 to Solo. Any other loss sets Solo to 0. Enough Rescues, the
   last ones all solo, fail the request.
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
"""The default of `WorkerLoss.max_rescues`."""
_SUSPECT_FROM: Final = 2
_SOLO_TO_FAIL: Final = 4
_MIN_PROBATION: Final = timedelta(seconds=60)
_MIN_BACKOFF: Final = 2.0
_MAX_BACKOFF: Final = 900.0
_MAX_DOUBLINGS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoss:
    """How a worker was lost."""

    last_seen: datetime | None = None
    """The SeenAt of its last heartbeat, by its own clock. None: not known."""
    max_rescues: int = MAX_RESCUES
    """How many losses a request survives in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """What a rescue writes."""

    rescues: int
    """The new value of Rescues."""
    solo: int
    """The new value of Solo."""
    after: timedelta | None
    """How long the request waits before it is due. None: the request fails."""


def is_suspect(rescues: int) -> bool:
    """Return whether a request with this many rescues may be the cause of its workers' loss."""
    return rescues >= _SUSPECT_FROM


def probation_of(rescues: int) -> timedelta:
    """Return how long a suspect's attempt is in probation, from its start.

    That is 60 s, doubled for each rescue after the second.
    """
    doublings = min(max(0, rescues - _SUSPECT_FROM), _MAX_DOUBLINGS)
    return _MIN_PROBATION * (1 << doublings)


def after_loss(request: AsyncRequest, loss: WorkerLoss, rng: random.Random) -> Rescued:
    """Return what a rescue writes to a request whose worker was lost.

    1. MaxRetries is 0, so the request must not be started again after a crash: it fails.
    2. It has more than `max_rescues` rescues, and the last four were in probation: it fails.
    3. Otherwise it waits for a random time of up to 2 s, doubled for each earlier rescue, but at
       most 900 s.
    """
    rescues = request.rescues + 1
    solo = request.solo + 1 if _was_in_probation(request, loss.last_seen) else 0
    ends = request.max_retries == 0 or (rescues > loss.max_rescues and solo >= _SOLO_TO_FAIL)
    if ends:
        return Rescued(rescues=rescues, solo=solo, after=None)
    wait = full_jitter(rng, rescues, first=_MIN_BACKOFF, longest=_MAX_BACKOFF)
    return Rescued(rescues=rescues, solo=solo, after=timedelta(seconds=wait))


def _was_in_probation(request: AsyncRequest, last_seen: datetime | None) -> bool:
    """Return whether the worker was lost during the probation, by the time of its last heartbeat.

    If that time is not known, it was.
    """
    if request.alone is None or request.alone != request.version:
        return False
    if last_seen is None or request.processing_started is None:
        return True
    return last_seen - request.processing_started < probation_of(request.rescues)
