"""Which status may follow which (pure)."""

from __future__ import annotations

from typing import Final

from streamer_store.models import RequestStatus

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


def allowed(before: RequestStatus, after: RequestStatus) -> bool:
    """Whether a request in `before` may move to `after`; a status never follows itself."""
    return after in FOLLOWS[before]


def sources(after: RequestStatus) -> frozenset[RequestStatus]:
    """Return the statuses from which `after` may be reached."""
    return frozenset(before for before, afters in FOLLOWS.items() if after in afters)
