"""The conditional write for each change of a request, as data (pure).

`kept_for`: how long a request that ends is kept (`Retention`).

Invariants (docs/invariants.md):

- VERSION-1: every write that changes Status sets a Version that the request never had before. No
  write removes Version.
- FENCE-1: every write of a claim's holder requires Status=PROCESSING and the Version of the claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from streamer_store.attempts import ATTEMPTS
from streamer_store.conditions import Absent, Below
from streamer_store.engine import Put, Update
from streamer_store.lanes import LANE_ATTRIBUTES, Place
from streamer_store.models import AsyncRequest, Candidate, Claim, Progress
from streamer_store.request_attributes import (
    RESCUE_ATTRIBUTES,
    attempt_values,
    change_status,
    failure_values,
    held_by,
    number_value,
    progress_values,
    rescue_values,
    status_is,
    text_value,
    time_value,
    ttl_value,
    unchanged,
    unique_window,
    version_is,
    wait_at_once,
    wait_until,
)
from streamer_store.rescues import Rescued
from streamer_store.schema import REQUEST_TTL, REQUESTS
from streamer_store.transitions import RequestStatus
from streamer_store.values import AttributeValue, Item, encode_document

_EXPENDABLE: Final = (ATTEMPTS, "Checkpoint", "ProgressDetails", "ProgressMessage", "Result")
ERROR_SPACE_STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (),
    _EXPENDABLE,
    (*_EXPENDABLE, "Payload"),
)
"""Attributes to remove, step by step, until the item has room for the error. Payload is last.

Attempts alone is removed before that, from any write (`without_attempts`).
"""
DROPPED_FOR_RESULT: Final = (ATTEMPTS, "ProgressDetails", "ProgressMessage")
"""Attributes to remove if the item has no room for the result."""


def enqueue(item: Item) -> Put:
    """Store a new request, if its id is not taken."""
    return Put(table=REQUESTS, item=item, conditions=(Absent("RequestID"),))


def enqueue_over(seen: Item, item: Item) -> Put:
    """Store a request in the place of one that waits or has ended, if that has not changed.

    UNIQUE-1: the condition is the Version seen, so no copy that arrives late takes effect.
    """
    return Put(table=REQUESTS, item=item, conditions=unchanged(seen))


def claim(
    seen: Candidate, *, worker_id: str | None, version: str, now: datetime, alone: bool = False
) -> Update:
    """Claim a waiting request as it was seen (CLAIM-1). `alone`: whether its probation starts."""
    sets = {
        "ProcessingStarted": time_value(now),
        "WriteSeq": number_value(0),
        "TTL": ttl_value(now),
    }
    removes = ("RetryAfter", "Error", "ErrorCode", "ProcessingEnded", "Result")
    if worker_id is not None:
        sets["WorkerID"] = {"S": worker_id}
    if alone:
        sets["Alone"] = {"S": version}
    return change_status(
        seen.request_id,
        RequestStatus.PROCESSING,
        version,
        sets=sets,
        removes=(*removes, "WorkerID") if worker_id is None else removes,
        conditions=(status_is(seen.status), version_is(seen.seen_version)),
        returning=True,
    )


def progress(
    held: Claim, *, seq: int, progress: Progress | None, checkpoint: AttributeValue | None = None
) -> Update:
    """Write progress, a checkpoint, or both. What is None keeps its stored value.

    `seq`: the number of this write. It has no effect over a write with a higher number (FENCE-2).
    """
    sets = progress_values(progress) | {"WriteSeq": number_value(seq)}
    if checkpoint is not None:
        sets["Checkpoint"] = checkpoint
    return Update(
        table=REQUESTS,
        key=held.request_id,
        sets=sets,
        conditions=(*held_by(held), Below("WriteSeq", number_value(seq))),
        returning=False,
    )


def complete(
    held: Claim,
    *,
    result: Mapping[str, Any] | None,
    version: str,
    now: datetime,
    progress: Progress | None = None,
    drop: tuple[str, ...] = (),
    kept_for: timedelta = REQUEST_TTL,
) -> Update:
    """Complete a request. `drop`: attributes to remove to make room; progress is then left out."""
    sets = progress_values(None if drop else progress) | {
        "Progress": number_value(1),
        "ProcessingEnded": time_value(now),
        "TTL": ttl_value(now, max(kept_for, unique_window(held.request))),
    }
    if result is not None:
        sets["Result"] = encode_document(result, "result")
    return change_status(
        held.request_id,
        RequestStatus.COMPLETED,
        version,
        sets=sets,
        removes=("Checkpoint", *drop),
        conditions=held_by(held),
    )


def fail(
    held: Claim,
    *,
    error: str,
    code: str,
    version: str,
    now: datetime,
    error_class: str | None = None,
    ran: bool = True,
    drop: tuple[str, ...] = (),
    progress: Progress | None = None,
    kept_for: timedelta = REQUEST_TTL,
) -> Update:
    """Fail a request.

    `ran`: whether there was an attempt to add to Attempts. `drop`: attributes to remove. The
    error is then cut, and progress is left out.
    """
    sets = failure_values(error, code, now, short=bool(drop))
    sets["TTL"] = ttl_value(now, kept_for)
    if not drop:
        sets = progress_values(progress) | sets
        if ran:
            sets |= attempt_values(
                held.request, "failed", now, error=error, code=code, error_class=error_class
            )
    return change_status(
        held.request_id,
        RequestStatus.FAILED,
        version,
        sets=sets,
        removes=drop,
        conditions=held_by(held),
    )


def retry(
    held: Claim,
    *,
    after: timedelta,
    error: str | None,
    code: str | None,
    counts: bool,
    version: str,
    now: datetime,
    error_class: str | None = None,
    rescued: Rescued | None = None,
    progress: Progress | None = None,
) -> Update:
    """End the attempt, so that the request becomes due at `now + after`.

    `counts`: add 1 to RetryCount and remove the counts of rescues. `rescued`: counts of rescues
    to write. With one of them the attempt has failed, and is added to Attempts.
    """
    count = held.request.retry_count + (1 if counts else 0)
    sets = progress_values(progress) | {
        **wait_until(RequestStatus.RETRYING, held.request.priority, now + after),
        "RetryCount": number_value(count),
        "ProcessingEnded": time_value(now),
        "TTL": ttl_value(now + after),
    }
    if rescued is not None:
        sets |= rescue_values(rescued)
    if error is not None:
        sets["Error"] = text_value("error", error)
    if code is not None:
        sets["ErrorCode"] = text_value("code", code)
    if counts or rescued is not None:
        outcome = "retried" if rescued is None else "rescued"
        sets |= attempt_values(
            held.request, outcome, now, error=error, code=code, error_class=error_class
        )
    return change_status(
        held.request_id,
        RequestStatus.RETRYING,
        version,
        sets=sets,
        removes=("WorkerID", *(RESCUE_ATTRIBUTES if counts else ())),
        conditions=held_by(held),
    )


def release(
    held: Claim, *, version: str, now: datetime, progress: Progress | None = None
) -> Update:
    """Return a running request to PENDING or SCHEDULED. RetryCount is unchanged."""
    status, waiting = wait_at_once(held.request.priority, held.request.created_at, now)
    return change_status(
        held.request_id,
        status,
        version,
        sets=progress_values(progress) | waiting | {"TTL": ttl_value(now)},
        removes=("WorkerID", "ProcessingStarted"),
        conditions=held_by(held),
    )


def rescue(
    seen: Candidate,
    request: AsyncRequest,
    *,
    error: str,
    code: str,
    version: str,
    now: datetime,
    rescued: Rescued | None = None,
    kept_for: timedelta = REQUEST_TTL,
) -> Update:
    """Take a running request from its holder, if it has not changed since `seen` (RESCUE-3).

    1. `rescued` is given, so the worker was lost: write these counts. The request waits
       `rescued.after`, or fails if that is None.
    2. Otherwise the attempt counts. The request is due at once, or fails if there are no retries
       left.
    """
    sets = failure_values(error, code, now) | {"TTL": ttl_value(now, kept_for)}
    removes: tuple[str, ...] = ("WorkerID",)
    if rescued is not None:  # RESCUE-4: RetryCount is unchanged
        after = rescued.after
        sets |= rescue_values(rescued)
    else:
        count = request.retry_count + 1
        after = timedelta() if count <= request.max_retries else None
        if after is not None:
            sets["RetryCount"] = number_value(count)
            removes += RESCUE_ATTRIBUTES
    if after is not None:
        sets |= wait_until(RequestStatus.RETRYING, request.priority, now + after)
        sets["TTL"] = ttl_value(now + after)
    outcome = "failed" if after is None else "rescued"
    sets |= attempt_values(request, outcome, now, error=error, code=code)
    return change_status(
        seen.request_id,
        RequestStatus.FAILED if after is None else RequestStatus.RETRYING,
        version,
        sets=sets,
        removes=() if after is None else removes,
        conditions=(status_is(RequestStatus.PROCESSING), version_is(seen.seen_version)),
    )


def give_up(
    seen: Candidate,
    *,
    error: str,
    code: str,
    version: str,
    now: datetime,
    drop: tuple[str, ...] = (),
    kept_for: timedelta = REQUEST_TTL,
) -> Update:
    """Fail a request that cannot run, if it has not changed since `seen`. `drop`: as in `fail`."""
    sets = failure_values(error, code, now, short=bool(drop))
    return change_status(
        seen.request_id,
        RequestStatus.FAILED,
        version,
        sets=sets | {"TTL": ttl_value(now, kept_for)},
        removes=("RetryAfter", *drop),
        conditions=(status_is(seen.status), version_is(seen.seen_version)),
    )


def without_attempts(update: Update) -> Update:
    """Return the same write for an item that has no room: it removes Attempts."""
    sets = {name: value for name, value in update.sets.items() if name != ATTEMPTS}
    return replace(update, sets=sets, removes=(*update.removes, ATTEMPTS))


def correct_place(seen: Item, place: Place | None) -> Update:
    """Write the place in DueIndex, if the request has not changed since `seen`.

    Neither Status nor Version changes, so claims and their holders do not notice.
    """
    return Update(
        table=REQUESTS,
        key=seen["RequestID"]["S"],
        sets={} if place is None else place.values(),
        removes=LANE_ATTRIBUTES if place is None else (),
        conditions=unchanged(seen),
        returning=False,
    )
