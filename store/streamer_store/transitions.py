"""The statuses of a request, and which may follow which (pure)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class RequestStatus(StrEnum):
    """The attribute Status of a request. FOLLOWS says which status may follow which."""

    PENDING = "PENDING"
    """Waits for its first attempt, or was redriven or released."""
    PROCESSING = "PROCESSING"
    """A worker has claimed it."""
    COMPLETED = "COMPLETED"
    """Its handler returned; it has a Result."""
    FAILED = "FAILED"
    """It has used its attempts, or can never succeed; it has an Error and an ErrorCode."""
    CANCELLED = "CANCELLED"
    """Somebody cancelled it. Its handler is interrupted."""
    RETRYING = "RETRYING"
    """Waits until RetryAfter for its next attempt."""


_P = RequestStatus

FOLLOWS: Final[dict[RequestStatus, frozenset[RequestStatus]]] = {
    # To FAILED: what cannot be claimed, since it does not read or has no room.
    _P.PENDING: frozenset({_P.PROCESSING, _P.CANCELLED, _P.FAILED}),
    _P.RETRYING: frozenset({_P.PROCESSING, _P.CANCELLED, _P.FAILED}),
    _P.PROCESSING: frozenset({_P.COMPLETED, _P.FAILED, _P.RETRYING, _P.PENDING, _P.CANCELLED}),
    _P.COMPLETED: frozenset(),
    _P.FAILED: frozenset({_P.PENDING}),
    _P.CANCELLED: frozenset({_P.PENDING}),
}

WAITING: Final = frozenset({_P.PENDING, _P.RETRYING})
TERMINAL: Final = frozenset({_P.COMPLETED, _P.FAILED, _P.CANCELLED})


def sources(after: RequestStatus) -> frozenset[RequestStatus]:
    """Return the statuses from which `after` may be reached."""
    return frozenset(before for before, afters in FOLLOWS.items() if after in afters)
