"""The lanes of DueIndex: which requests are in it, and in which order (pure).

StatusIndex sorts by CreatedAt, so finding the due ones among many requests that wait for later
means reading all of them. DueIndex sorts by the time at which a request may run. Its hash key is
a *lane*, one for each priority:

1. `high`: every waiting request of high priority.
2. `due`: RETRYING and SCHEDULED requests of normal priority.
3. `low`: every waiting request of low priority.

A PENDING request of normal priority has no lane, and costs no write to DueIndex. The attributes
are written whether or not the table has the index, so that an index that is added later has all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from streamer_store.times import NEVER, format_time
from streamer_store.transitions import DELAYED, WAITING, RequestStatus
from streamer_store.values import AttributeValue

LANE_ATTRIBUTES: Final = ("DueLane", "DueAt")
"""The keys of DueIndex. An item has both or neither."""


class Priority(StrEnum):
    """How urgent a request is, for its whole life. Without a priority it is normal."""

    HIGH = "high"
    """It runs before the others."""
    LOW = "low"
    """It runs when no other request waits."""


class Lane(StrEnum):
    """The hash key of DueIndex."""

    HIGH = "high"
    """Requests of high priority."""
    DUE = "due"
    """RETRYING and SCHEDULED requests of normal priority."""
    LOW = "low"
    """Requests of low priority."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in DueIndex: the lane, and the time from which the request may run."""

    lane: Lane
    due_at: datetime

    def values(self) -> dict[str, AttributeValue]:
        """Return the attributes DueLane and DueAt."""
        return {"DueLane": {"S": self.lane.value}, "DueAt": {"S": format_time(self.due_at)}}


def priority_of(value: object) -> Priority | None:
    """Return the priority that a stored value names. Any other value means normal priority."""
    return next((priority for priority in Priority if priority.value == value), None)


def place_of(
    status: RequestStatus,
    priority: Priority | None,
    *,
    created_at: datetime | None,
    retry_after: datetime | None,
) -> Place | None:
    """Return the place in DueIndex that a request must have, or None if it must not be there.

    A request without RetryAfter may run from its creation, and one without CreatedAt at once.
    """
    lane = _lane_of(status, priority)
    if lane is None:
        return None
    waits_until = retry_after if status in DELAYED else None
    return Place(lane, waits_until or created_at or NEVER)


def _lane_of(status: RequestStatus, priority: Priority | None) -> Lane | None:
    if status not in WAITING:
        return None
    match priority:
        case Priority.HIGH:
            return Lane.HIGH
        case Priority.LOW:
            return Lane.LOW
    return Lane.DUE if status in DELAYED else None
