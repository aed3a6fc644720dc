"""What follows if a unique key has a request already (pure)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from streamer_store import codec
from streamer_store.errors import Undecodable
from streamer_store.models import AsyncRequest
from streamer_store.run_times import as_waiting
from streamer_store.transitions import TERMINAL, WAITING, RequestStatus
from streamer_store.unique_keys import OnConflict
from streamer_store.values import Item

_MAX_DELAYS: Final = 10
"""How many delays after its creation a request runs at the latest, however often it is replaced."""


class Answer(Enum):
    """What `enqueue` does about the request that a unique key has."""

    KEEP = auto()
    """Return that request."""
    REPLACE = auto()
    """Store the new request in the place of the one that waits."""
    RENEW = auto()
    """Store the new request in the place of the one that has ended."""


def answer_to(seen: Item, new: AsyncRequest, on_conflict: OnConflict, now: datetime) -> Answer:
    """Return what to do about the item under the id of a new request (UNIQUE-1).

    1. It waits: REPLACE if asked for, or else KEEP.
    2. It runs, or it is COMPLETED and its window is not over: KEEP.
    3. It is FAILED or CANCELLED, or COMPLETED and its window is over: RENEW.

    Raises Undecodable if its status or the end of its window cannot be read, and if it does not
    have the key, the action and the tenant of `new`: nothing may be said about another's request.
    """
    for name, own in {
        "UniqueKey": new.unique_key,
        "Action": new.action,
        "TenantID": new.tenant_id,
    }.items():
        if codec.raw_text(seen, name) != (own or ""):
            raise Undecodable(f"{name} is not the one that gives this id", key=new.request_id)
    status = codec.raw_text(seen, "Status")
    if status in WAITING:
        return Answer.REPLACE if on_conflict == "replace_waiting" else Answer.KEEP
    if status == RequestStatus.PROCESSING:
        return Answer.KEEP
    if status not in TERMINAL:
        raise Undecodable(
            f"Status: {status[:40]!r} is not known to this release", key=new.request_id
        )
    if status != RequestStatus.COMPLETED:
        return Answer.RENEW
    ends = codec.window_end(seen)
    return Answer.KEEP if ends is not None and now < ends else Answer.RENEW


def replacement(
    seen: Item, new: AsyncRequest, now: datetime, *, delay: timedelta | None
) -> AsyncRequest:
    """Return the new request as it takes the place of one that waits.

    It keeps the creation time. A delay starts again, but the request runs at the latest ten
    delays after its creation. So requests that come all the time do not put it off for ever. A
    time that the producer gave without a delay stays as it is.
    """
    created_at = codec.raw_time(seen, "CreatedAt") or new.created_at
    run_at = new.retry_after
    if delay is not None and run_at is not None and created_at is not None:
        longest = _MAX_DELAYS * delay
        if run_at - created_at > longest:
            run_at = created_at + longest
    return as_waiting(replace(new, created_at=created_at, retry_after=run_at), now=now)
