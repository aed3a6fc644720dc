"""The statuses of a request, and which status can follow which (pure)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class RequestStatus(StrEnum):
    """The state of a request."""

    PENDING = "PENDING"
    """It waits for its first attempt, or was released or redriven."""
    PROCESSING = "PROCESSING"
    """A worker has claimed it and runs it."""
    COMPLETED = "COMPLETED"
    """Its handler returned. Result has what it returned."""
    FAILED = "FAILED"
    """It has no attempts left, or cannot succeed. Error and ErrorCode say why."""
    CANCELLED = "CANCELLED"
    """It was cancelled. If it was running, its worker stops the handler."""
    RETRYING = "RETRYING"
    """It waits until RetryAfter for its next attempt."""
    SCHEDULED = "SCHEDULED"
    """It waits until RetryAfter for its first attempt, or has low priority."""


_P = RequestStatus

FOLLOWS: Final[dict[RequestStatus, frozenset[RequestStatus]]] = {
    # A waiting request fails if it cannot be decoded or has no room for the write of a claim.
    # PENDING becomes SCHEDULED when an operator puts it off.
    _P.PENDING: frozenset({_P.PROCESSING, _P.CANCELLED, _P.FAILED, _P.SCHEDULED}),
    _P.RETRYING: frozenset({_P.PROCESSING, _P.CANCELLED, _P.FAILED}),
    _P.SCHEDULED: frozenset({_P.PROCESSING, _P.CANCELLED, _P.FAILED}),
    # A request of low priority is released and redriven as SCHEDULED, never as PENDING.
    _P.PROCESSING: frozenset(
        {_P.COMPLETED, _P.FAILED, _P.RETRYING, _P.PENDING, _P.SCHEDULED, _P.CANCELLED}
    ),
    _P.COMPLETED: frozenset(),
    _P.FAILED: frozenset({_P.PENDING, _P.SCHEDULED}),
    _P.CANCELLED: frozenset({_P.PENDING, _P.SCHEDULED}),
}

WAITING: Final = (_P.PENDING, _P.RETRYING, _P.SCHEDULED)
"""The statuses that can be claimed, in the order in which they are read."""
DELAYED: Final = (_P.RETRYING, _P.SCHEDULED)
"""The statuses that wait until RetryAfter. DueIndex has them in the order of that time."""
TERMINAL: Final = frozenset({_P.COMPLETED, _P.FAILED, _P.CANCELLED})
"""The statuses that end a request. Only a redrive leaves them."""


def sources(after: RequestStatus) -> frozenset[RequestStatus]:
    """Return the statuses that `after` can follow."""
    return frozenset(before for before, afters in FOLLOWS.items() if after in afters)
