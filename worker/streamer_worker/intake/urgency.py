"""How urgent a waiting request is now (pure)."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import IntEnum

from streamer_store import Candidate, Priority


class Urgency(IntEnum):
    """The order in which waiting requests go. The lowest number goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


def urgency_of(candidate: Candidate, *, now: datetime, patience: timedelta) -> Urgency:
    """Return how urgent the request is at `now`.

    One of low priority counts as normal when it could have run for `patience`, so that it is
    never left for ever. That time starts again with each retry.
    """
    match candidate.priority:
        case Priority.HIGH:
            return Urgency.HIGH
        case Priority.LOW:
            since = candidate.retry_after or candidate.created_at
            is_late = since is None or now - since >= patience
            return Urgency.NORMAL if is_late else Urgency.LOW
    return Urgency.NORMAL
