"""The conditional writes of an operator's actions, as data (pure)."""

from __future__ import annotations

from datetime import datetime, timedelta

from streamer_store import codec
from streamer_store.engine import Update
from streamer_store.request_attributes import (
    RESCUE_ATTRIBUTES,
    change_status,
    number_value,
    text_value,
    time_value,
    ttl_value,
    unchanged,
    wait_at_once,
    wait_until,
)
from streamer_store.schema import REQUEST_TTL
from streamer_store.transitions import RequestStatus
from streamer_store.values import Item


def cancel(
    seen: Item,
    *,
    version: str,
    message: str | None,
    now: datetime,
    kept_for: timedelta = REQUEST_TTL,
    returning: bool = True,
) -> Update:
    """Cancel a request, if it has not changed since `seen`. `message`: None keeps the stored."""
    sets = {"ProcessingEnded": time_value(now), "TTL": ttl_value(now, kept_for)}
    if message is not None:
        sets["ProgressMessage"] = text_value("message", message)
    return change_status(
        seen["RequestID"]["S"],
        RequestStatus.CANCELLED,
        version,
        sets=sets,
        removes=("RetryAfter",),
        conditions=unchanged(seen),
        returning=returning,
    )


def redrive(
    seen: Item, *, version: str, message: str | None, now: datetime, returning: bool = True
) -> Update:
    """Make a request PENDING or SCHEDULED as if new, if it has not changed since `seen`.

    Its checkpoint is kept. `message`: None removes the stored one.
    """
    status, waiting = wait_at_once(codec.raw_priority(seen), codec.raw_time(seen, "CreatedAt"), now)
    sets = waiting | {
        "RetryCount": number_value(0),
        "Progress": number_value(0),
        "TTL": ttl_value(now),
    }
    removes = [
        "WorkerID",
        "Error",
        "ErrorCode",
        "Result",
        "ProcessingStarted",
        "ProcessingEnded",
        "ProgressDetails",
        *RESCUE_ATTRIBUTES,
    ]
    if "RetryAfter" not in sets:
        removes.append("RetryAfter")
    if message is None:
        removes.append("ProgressMessage")
    else:
        sets["ProgressMessage"] = text_value("message", message)
    return change_status(
        seen["RequestID"]["S"],
        status,
        version,
        sets=sets,
        removes=tuple(removes),
        conditions=unchanged(seen),
        returning=returning,
    )


def reschedule(seen: Item, *, version: str, run_at: datetime, now: datetime) -> Update:
    """Let a waiting request run at `run_at`, if it has not changed since `seen`.

    RETRYING stays RETRYING. Any other status becomes SCHEDULED. A time that has passed is `now`.
    """
    retrying = seen["Status"]["S"] == RequestStatus.RETRYING
    status = RequestStatus.RETRYING if retrying else RequestStatus.SCHEDULED
    due_at = max(run_at, now)
    return change_status(
        seen["RequestID"]["S"],
        status,
        version,
        sets=wait_until(status, codec.raw_priority(seen), due_at) | {"TTL": ttl_value(due_at)},
        removes=("WorkerID",),
        conditions=unchanged(seen),
        returning=True,
    )
