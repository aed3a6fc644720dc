"""The attribute values and conditions that `writes.py` puts together (pure)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from streamer_store.engine import Condition, OneOf, equals
from streamer_store.models import Claim, Progress
from streamer_store.rescues import Rescued
from streamer_store.schema import REQUEST_TTL
from streamer_store.times import epoch, format_time
from streamer_store.transitions import RequestStatus
from streamer_store.validation import require_string
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


def ttl_value(moment: datetime) -> AttributeValue:
    """Return the TTL of a request: 7 days after `moment`, in epoch seconds."""
    return number_value(epoch(moment, REQUEST_TTL))
