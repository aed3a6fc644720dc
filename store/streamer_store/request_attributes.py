"""The attribute values and conditions that `writes.py` puts together (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from streamer_store.attempts import ATTEMPTS, Attempt, attempts_value
from streamer_store.conditions import Condition, OneOf, equals
from streamer_store.engine import Update
from streamer_store.lanes import LANE_ATTRIBUTES, Priority, place_of
from streamer_store.models import AsyncRequest, Claim, Progress
from streamer_store.rescues import Rescued
from streamer_store.schema import REQUEST_TTL, REQUESTS
from streamer_store.times import epoch, format_time
from streamer_store.transitions import RequestStatus
from streamer_store.validation import LARGEST_COUNT, require_string
from streamer_store.values import AttributeValue, Item, encode, encode_document

RESCUE_ATTRIBUTES: Final = ("Rescues", "Solo", "Alone")
STATUS_VALUES: Final[dict[RequestStatus, AttributeValue]] = {
    status: {"S": status.value} for status in RequestStatus
}
"""The attribute value of each status."""
SHORT_ERROR_CHARS: Final = 256
"""The length of an error text in an item that has no room for the whole text."""

_STATUS_IS: Final[dict[RequestStatus, Condition]] = {
    status: OneOf("Status", (value,)) for status, value in STATUS_VALUES.items()
}


def change_status(
    request_id: str,
    status: RequestStatus,
    version: str,
    *,
    sets: Mapping[str, AttributeValue],
    removes: tuple[str, ...] = (),
    conditions: tuple[Condition, ...],
    returning: bool = False,
) -> Update:
    """Return the write that gives a request a status and a new Version (VERSION-1).

    It removes the lane of DueIndex unless it is in `sets`. So no lane of an earlier status
    remains, not even one that another release should have removed.
    """
    lanes = tuple(name for name in LANE_ATTRIBUTES if name not in sets)
    return Update(
        table=REQUESTS,
        key=request_id,
        sets={"Status": STATUS_VALUES[status], "Version": {"S": version}, **sets},
        removes=(*removes, *lanes),
        conditions=conditions,
        returning=returning,
    )


def wait_until(
    status: RequestStatus, priority: Priority | None, moment: datetime
) -> dict[str, AttributeValue]:
    """Return RetryAfter and the lane of a RETRYING or SCHEDULED request, due at `moment`."""
    place = place_of(status, priority, created_at=None, retry_after=moment)
    return {"RetryAfter": time_value(moment), **(place.values() if place else {})}


def wait_at_once(
    priority: Priority | None, created_at: datetime | None, now: datetime
) -> tuple[RequestStatus, dict[str, AttributeValue]]:
    """Return the status, RetryAfter and the lane of a request that may run at once.

    It is PENDING, except at low priority: then it is SCHEDULED and due since its creation, so
    that it is not among the PENDING requests that every poll reads.
    """
    if priority is Priority.LOW:
        status = RequestStatus.SCHEDULED
        return status, wait_until(status, priority, created_at or now)
    status = RequestStatus.PENDING
    place = place_of(status, priority, created_at=created_at, retry_after=None)
    return status, {} if place is None else place.values()


def progress_values(progress: Progress | None) -> dict[str, AttributeValue]:
    """Return the attributes of the fields that are not None. Raises ValidationError."""
    values: dict[str, AttributeValue] = {}
    if progress is None:
        return values
    if progress.fraction is not None:
        values["Progress"] = encode(progress.fraction, "progress")
    if progress.message is not None:
        values["ProgressMessage"] = encode(progress.message, "message")
    if progress.details is not None:
        values["ProgressDetails"] = encode_document(progress.details, "details")
    return values


def rescue_values(rescued: Rescued) -> dict[str, AttributeValue]:
    """Return the attributes of the counts that a rescue writes."""
    return {"Rescues": number_value(rescued.rescues), "Solo": number_value(rescued.solo)}


def failure_values(
    error: str, code: str, now: datetime, *, short: bool = False
) -> dict[str, AttributeValue]:
    """Return the attributes of an attempt that failed. `short` cuts the text."""
    return {
        "Error": text_value("error", error[:SHORT_ERROR_CHARS] if short else error),
        "ErrorCode": text_value("code", code),
        "ProcessingEnded": time_value(now),
    }


def attempt_values(
    request: AsyncRequest,
    outcome: str,
    now: datetime,
    *,
    error: str | None,
    code: str | None,
    error_class: str | None = None,
) -> dict[str, AttributeValue]:
    """Return the attribute Attempts of a request after its present attempt, which has failed."""
    attempt = Attempt(
        number=min(request.retry_count + 1, LARGEST_COUNT),
        ended=now,
        outcome=outcome,
        worker_id=request.worker_id,
        started=request.processing_started,
        error_code=code,
        error_class=error_class,
        error=error,
    )
    return {ATTEMPTS: attempts_value((*request.attempts, attempt))}


def unchanged(seen: Item) -> tuple[Condition, ...]:
    """Return the conditions that a request still has the Status and Version seen."""
    return (OneOf("Status", (seen["Status"],)), version_is(seen.get("Version")))


def held_by(claim: Claim) -> tuple[Condition, ...]:
    """Return the conditions that a claim still holds its request: the fence (FENCE-1)."""
    return (status_is(RequestStatus.PROCESSING), version_is({"S": claim.version}))


def status_is(status: RequestStatus) -> Condition:
    """Return the condition that the request has this status."""
    return _STATUS_IS[status]


def version_is(version: AttributeValue | None) -> Condition:
    """Return the condition that Version has this value, or is absent if it is None."""
    return equals("Version", version)


def time_value(moment: datetime) -> AttributeValue:
    """Return a time as text in UTC."""
    return {"S": format_time(moment)}


def text_value(name: str, value: object) -> AttributeValue:
    """Return a string as an attribute value. Raises ValidationError with `name`."""
    require_string(name, value)
    return encode(value, name)


def number_value(value: int) -> AttributeValue:
    """Return a whole number as an attribute value."""
    return {"N": str(value)}


def unique_window(request: AsyncRequest) -> timedelta:
    """Return how long a COMPLETED request keeps its unique key. Zero: not at all.

    UNIQUE-1: TTL must not be in the window. It is in whole seconds, so one is added.
    """
    window = request.unique_for
    return timedelta() if window is None else window + timedelta(seconds=1)


def ttl_value(moment: datetime, kept_for: timedelta = REQUEST_TTL) -> AttributeValue:
    """Return the TTL of a request that is kept so long after `moment`, in epoch seconds."""
    return number_value(epoch(moment, kept_for))
