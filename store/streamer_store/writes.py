"""One conditional write per transition of a request, as data (pure).

Invariants: every write that changes Status sets a Version never used before; nothing removes
Version; every write by the holder of a claim carries Status=PROCESSING and the claim's Version.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from streamer_store.engine import Absent, Below, Condition, OneOf, Put, Update, equals
from streamer_store.errors import ValidationError
from streamer_store.models import AsyncRequest, Candidate, Claim, Progress
from streamer_store.rescues import Rescued
from streamer_store.schema import REQUEST_TTL, REQUESTS
from streamer_store.times import epoch, format_time
from streamer_store.transitions import RequestStatus
from streamer_store.values import AttributeValue, Item, encode, encode_document

_CANCELS: Final = uuid.UUID("6f1ff2c4-5d0b-4b57-9c8e-6a3e5a6f0d11")
_SETTLES: Final = uuid.UUID("b0a1b1f2-3c1e-4a55-8d43-0f6d5a1c7e22")
_SPARE: Final = ("Checkpoint", "ProgressDetails", "ProgressMessage", "Result")
# What a failure gives up for its own few words: at first nothing, the payload last.
ERROR_SPACE_STEPS: Final[tuple[tuple[str, ...], ...]] = ((), _SPARE, (*_SPARE, "Payload"))
# What a result is worth more than.
DROPPED_FOR_RESULT: Final = ("ProgressDetails", "ProgressMessage")
SHORT_ERROR_CHARS: Final = 256
_RESCUES: Final = ("Rescues", "Solo", "Alone")


def cancel_version(seen: str) -> str:
    """Return the Version that cancelling `seen` sets.

    It is derived, not random: a worker recognises the cancellation of its claim by it, and a
    caller who cancels again can tell the worker once more. `seen` never comes back, so the
    derived Version is as fresh as a random one.
    """
    return str(uuid.uuid5(_CANCELS, seen))


def settle_version(claim: str) -> str:
    """Return the Version that the outcome of the claim with this Version sets.

    Derived, so that an outcome that is written again, because nobody knows whether the first
    write took effect, finds its own Version and knows. At most one outcome follows a claim.
    """
    return str(uuid.uuid5(_SETTLES, claim))


def enqueue(item: Item) -> Put:
    return Put(table=REQUESTS, item=item, conditions=(Absent("RequestID"),))


def claim(
    seen: Candidate, *, worker_id: str | None, version: str, now: datetime, alone: bool = False
) -> Update:
    """Claim a waiting request; `alone` starts its probation."""
    sets = {
        "ProcessingStarted": _time(now),
        "WriteSeq": _number(0),
        "TTL": _ttl(now),
    }
    removes = ["RetryAfter", "Error", "ErrorCode", "ProcessingEnded", "Result"]
    if worker_id is None:
        removes.append("WorkerID")
    else:
        sets["WorkerID"] = {"S": worker_id}
    if alone:
        sets["Alone"] = {"S": version}
    return _move(
        seen.request_id,
        RequestStatus.PROCESSING,
        version,
        sets=sets,
        removes=tuple(removes),
        conditions=(_status(seen.status), _version(seen.seen_version)),
        returning=True,
    )


def progress(
    held: Claim, *, seq: int, progress: Progress | None, checkpoint: AttributeValue | None = None
) -> Update:
    """Write progress, or a checkpoint, or both; what is None stays as it was."""
    sets = _progress(progress) | {"WriteSeq": _number(seq)}
    if checkpoint is not None:
        sets["Checkpoint"] = checkpoint
    return Update(
        table=REQUESTS,
        key=held.request_id,
        sets=sets,
        conditions=(*_fence(held), Below("WriteSeq", _number(seq))),
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
) -> Update:
    """Complete a request; `frees` go where the item has no room for its result."""
    sets = _progress(None if drop else progress) | {
        "Progress": _number(1),
        "ProcessingEnded": _time(now),
        "TTL": _ttl(now),
    }
    if result is not None:
        sets["Result"] = encode_document(result, "result")
    return _move(
        held.request_id,
        RequestStatus.COMPLETED,
        version,
        sets=sets,
        removes=("Checkpoint", *drop),
        conditions=_fence(held),
    )


def fail(
    held: Claim,
    *,
    error: str,
    code: str,
    version: str,
    now: datetime,
    drop: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Update:
    """Fail a request; `frees` go, and the error is cut, where the item has no room for it."""
    sets = _failure(error, code, now, short=bool(drop)) | {"TTL": _ttl(now)}
    if not drop:
        sets = _progress(progress) | sets
    return _move(
        held.request_id,
        RequestStatus.FAILED,
        version,
        sets=sets,
        removes=drop,
        conditions=_fence(held),
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
    rescued: Rescued | None = None,
    progress: Progress | None = None,
) -> Update:
    """Give the request back, to run again at `now + after`.

    A retry that counts starts a new count of rescues; one with `rescued` writes those counts.
    """
    count = held.request.retry_count + (1 if counts else 0)
    sets = _progress(progress) | {
        "RetryCount": _number(count),
        "RetryAfter": _time(now + after),
        "ProcessingEnded": _time(now),
        "TTL": _ttl(now + after),
    }
    if rescued is not None:
        sets |= _rescued(rescued)
    if error is not None:
        sets["Error"] = _text("error", error)
    if code is not None:
        sets["ErrorCode"] = _text("code", code)
    return _move(
        held.request_id,
        RequestStatus.RETRYING,
        version,
        sets=sets,
        removes=("WorkerID", *(_RESCUES if counts else ())),
        conditions=_fence(held),
    )


def release(
    held: Claim, *, version: str, now: datetime, progress: Progress | None = None
) -> Update:
    return _move(
        held.request_id,
        RequestStatus.PENDING,
        version,
        sets=_progress(progress) | {"TTL": _ttl(now)},
        removes=("WorkerID", "ProcessingStarted"),
        conditions=_fence(held),
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
) -> Update:
    """Take a request, as it was seen, from its holder.

    With `rescued` its worker was lost, and those counts are written. Otherwise the attempt
    counts, the request is due at once, and past MaxRetries it fails.
    """
    sets = _failure(error, code, now) | {"TTL": _ttl(now)}
    removes: tuple[str, ...] = ("WorkerID",)
    if rescued is not None:
        after = rescued.after
        sets |= _rescued(rescued)
    else:
        count = request.retry_count + 1
        after = timedelta() if count <= request.max_retries else None
        if after is not None:
            sets["RetryCount"] = _number(count)
            removes += _RESCUES
    if after is not None:
        sets |= {"RetryAfter": _time(now + after), "TTL": _ttl(now + after)}
    return _move(
        seen.request_id,
        RequestStatus.FAILED if after is None else RequestStatus.RETRYING,
        version,
        sets=sets,
        removes=() if after is None else removes,
        conditions=(_status(RequestStatus.PROCESSING), _version(seen.seen_version)),
    )


def give_up(
    seen: Candidate,
    *,
    error: str,
    code: str,
    version: str,
    now: datetime,
    drop: tuple[str, ...] = (),
) -> Update:
    """Fail a request that cannot run, as it was seen, waiting or running."""
    return _move(
        seen.request_id,
        RequestStatus.FAILED,
        version,
        sets=_failure(error, code, now, short=bool(drop)) | {"TTL": _ttl(now)},
        removes=("RetryAfter", *drop),
        conditions=(_status(seen.status), _version(seen.seen_version)),
    )


def cancel(seen: Item, *, version: str, message: str | None, now: datetime) -> Update:
    sets = {"ProcessingEnded": _time(now), "TTL": _ttl(now)}
    if message is not None:
        sets["ProgressMessage"] = _text("message", message)
    return _move(
        seen["RequestID"]["S"],
        RequestStatus.CANCELLED,
        version,
        sets=sets,
        removes=("RetryAfter",),
        conditions=_as_seen(seen),
        returning=True,
    )


def redrive(seen: Item, *, version: str, message: str | None, now: datetime) -> Update:
    sets = {"RetryCount": _number(0), "Progress": _number(0), "TTL": _ttl(now)}
    removes = [
        "WorkerID",
        "RetryAfter",
        "Error",
        "ErrorCode",
        "Result",
        "ProcessingStarted",
        "ProcessingEnded",
        "ProgressDetails",
        *_RESCUES,
    ]
    if message is None:
        removes.append("ProgressMessage")
    else:
        sets["ProgressMessage"] = _text("message", message)
    return _move(
        seen["RequestID"]["S"],
        RequestStatus.PENDING,
        version,
        sets=sets,
        removes=tuple(removes),
        conditions=_as_seen(seen),
        returning=True,
    )


def _move(
    request_id: str,
    status: RequestStatus,
    version: str,
    *,
    sets: Mapping[str, AttributeValue],
    removes: tuple[str, ...] = (),
    conditions: tuple[Condition, ...],
    returning: bool = False,
) -> Update:
    return Update(
        table=REQUESTS,
        key=request_id,
        sets={"Status": {"S": status.value}, "Version": {"S": version}} | dict(sets),
        removes=removes,
        conditions=conditions,
        returning=returning,
    )


def _progress(progress: Progress | None) -> dict[str, AttributeValue]:
    sets: dict[str, AttributeValue] = {}
    if progress is None:
        return sets
    if progress.fraction is not None:
        sets["Progress"] = encode(progress.fraction, "progress")
    if progress.message is not None:
        sets["ProgressMessage"] = encode(progress.message, "message")
    if progress.details is not None:
        sets["ProgressDetails"] = encode_document(progress.details, "details")
    return sets


def _rescued(rescued: Rescued) -> dict[str, AttributeValue]:
    return {"Rescues": _number(rescued.rescues), "Solo": _number(rescued.solo)}


def _as_seen(seen: Item) -> tuple[Condition, ...]:
    return (OneOf("Status", (seen["Status"],)), _version(seen.get("Version")))


def _fence(held: Claim) -> tuple[Condition, ...]:
    return (_status(RequestStatus.PROCESSING), _version({"S": held.version}))


def _failure(
    error: str, code: str, now: datetime, *, short: bool = False
) -> dict[str, AttributeValue]:
    return {
        "Error": _text("error", error[:SHORT_ERROR_CHARS] if short else error),
        "ErrorCode": _text("code", code),
        "ProcessingEnded": _time(now),
    }


def _status(status: RequestStatus) -> Condition:
    return OneOf("Status", ({"S": status.value},))


def _version(seen: AttributeValue | None) -> Condition:
    return equals("Version", seen)


def _time(moment: datetime) -> AttributeValue:
    return {"S": format_time(moment)}


def _text(name: str, value: object) -> AttributeValue:
    if not isinstance(value, str):
        raise ValidationError(name, f"must be text, not {type(value).__name__}")
    return encode(value, name)


def _number(value: int) -> AttributeValue:
    return {"N": str(value)}


def _ttl(moment: datetime) -> AttributeValue:
    return _number(epoch(moment, REQUEST_TTL))
