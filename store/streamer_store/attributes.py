"""The attributes of the four tables' items, and how each is converted (pure).

The Go store uses the same attribute names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from streamer_store.fleet_shares import read_shares, write_shares
from streamer_store.lanes import priority_of
from streamer_store.times import NEVER, format_time, parse_time
from streamer_store.transitions import RequestStatus
from streamer_store.validation import LARGEST_COUNT
from streamer_store.values import AttributeValue, encode, encode_document

# RequestStatus(text) takes several times as long.
_STATUSES: Final = {status.value: status for status in RequestStatus}


@dataclass(frozen=True, slots=True)
class Attribute:
    """How one attribute of an item is converted.

    - `name`: the attribute. `field`: the field of the record.
    - `read`: converts a Python value to the field. None means absent. Raises ValueError.
    - `write`: converts the field to an attribute value. Its second argument is for errors.
    - `keep_empty`: empty text is written, as it differs from absent.
    - `omit_zero`: 0 is not written.
    """

    name: str
    field: str
    read: Callable[[Any], Any]
    write: Callable[[Any, str], AttributeValue] = encode
    keep_empty: bool = False
    omit_zero: bool = False


def _decode_text(value: Any) -> str | None:
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {type(value).__name__}")
    return value or None


def _decode_time(value: Any) -> Any:
    text = _decode_text(value)
    return None if text is None else parse_time(text)


def _decode_connected_at(value: Any) -> Any:
    """Decode a required time. Go's zero time is not None here, but NEVER."""
    text = _decode_text(value)
    return None if text is None else parse_time(text) or NEVER


def _encode_time(value: Any, _field: str) -> AttributeValue:
    return {"S": format_time(value)}


def _decode_status(value: Any) -> RequestStatus:
    status = _STATUSES.get(value) if type(value) is str else None
    return RequestStatus(value) if status is None else status


def _decode_number(value: Any) -> Any:
    if type(value) is int:  # most numbers
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"expected a number, found {type(value).__name__}")
    return float(value) if isinstance(value, Decimal) else value


def _decode_count(value: Any) -> int:
    number = _decode_number(value)
    if not isinstance(number, int) or not 0 <= number <= LARGEST_COUNT:
        raise ValueError(f"expected a whole number from 0 to {LARGEST_COUNT}, found {value}")
    return number


def _decode_duration(value: Any) -> timedelta:
    """Decode seconds, which may have six decimals."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError(f"expected a number of seconds, found {type(value).__name__}")
    return timedelta(microseconds=int(value * 1_000_000))


def _encode_duration(value: Any, _field: str) -> AttributeValue:
    microseconds = value // timedelta(microseconds=1)
    seconds, rest = divmod(microseconds, 1_000_000)
    return {"N": f"{seconds}.{rest:06}".rstrip("0") if rest else str(seconds)}


def _decode_document(value: Any) -> Mapping[str, Any]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise ValueError(f"expected a map, found {type(value).__name__}")
    return value


def _decode_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {type(value).__name__}")
    return value


def _decode_text_set(value: Any) -> frozenset[str]:
    if not isinstance(value, set | list):
        raise ValueError(f"expected a set of text, found {type(value).__name__}")
    return frozenset(str(member) for member in value)


def _encode_text_set(value: frozenset[str], field: str) -> AttributeValue:
    return encode({str(member) for member in value}, field)


CONNECTION: Final = (
    Attribute("ConnectionID", "connection_id", _decode_text),
    Attribute("UserID", "user_id", _decode_text),
    Attribute("TenantID", "tenant_id", _decode_text),
    Attribute("Endpoint", "endpoint", _decode_text),
    Attribute("ConnectedAt", "connected_at", _decode_connected_at, _encode_time),
    Attribute("LastPing", "last_ping", _decode_time, _encode_time),
    Attribute("Metadata", "metadata", _decode_document, encode_document),
    Attribute("TTL", "ttl", _decode_number),
)

REQUEST: Final = (
    Attribute("RequestID", "request_id", _decode_text),
    Attribute("ConnectionID", "connection_id", _decode_text),
    Attribute("Status", "status", _decode_status, lambda status, _: {"S": status.value}),
    Attribute("CreatedAt", "created_at", _decode_time, _encode_time),
    Attribute("Action", "action", _decode_text),
    Attribute("Payload", "payload", _decode_document, encode_document),
    Attribute("ProcessingStarted", "processing_started", _decode_time, _encode_time),
    Attribute("ProcessingEnded", "processing_ended", _decode_time, _encode_time),
    Attribute("Result", "result", _decode_document, encode_document),
    Attribute("Error", "error", _decode_text),
    Attribute("ErrorCode", "error_code", _decode_text),
    Attribute("Progress", "progress", _decode_number),
    Attribute("ProgressMessage", "progress_message", _decode_text),
    Attribute("ProgressDetails", "progress_details", _decode_document, encode_document),
    Attribute("RetryCount", "retry_count", _decode_count),
    Attribute("MaxRetries", "max_retries", _decode_count),
    Attribute("RetryAfter", "retry_after", _decode_time, _encode_time),
    Attribute("UserID", "user_id", _decode_text),
    Attribute("TenantID", "tenant_id", _decode_text),
    Attribute("TTL", "ttl", _decode_number),
    Attribute("Version", "version", _decode_text),
    Attribute("WorkerID", "worker_id", _decode_text),
    Attribute("WriteSeq", "write_seq", _decode_count),
    Attribute("Checkpoint", "checkpoint", lambda value: value, keep_empty=True),
    Attribute("Rescues", "rescues", _decode_count, omit_zero=True),
    Attribute("Solo", "solo", _decode_count, omit_zero=True),
    Attribute("Alone", "alone", _decode_text),
    Attribute("Priority", "priority", priority_of, lambda priority, _: {"S": priority.value}),
    Attribute("UniqueKey", "unique_key", _decode_text),
    Attribute("UniqueFor", "unique_for", _decode_duration, _encode_duration),
    Attribute("UniqueRun", "unique_run", _decode_text),
)
"""All attributes but Attempts, which is never a reason not to read an item (`attempts.py`)."""

SUBSCRIPTION: Final = (
    Attribute("ConnectionID", "connection_id", _decode_text),
    Attribute("RequestID", "request_id", _decode_text),
    Attribute("EventTypes", "event_types", _decode_text_set, _encode_text_set),
    Attribute("CreatedAt", "created_at", _decode_time, _encode_time),
    Attribute("TTL", "ttl", _decode_number),
)

WORKER: Final = (
    Attribute("WorkerID", "worker_id", _decode_text),
    Attribute("StartedAt", "started_at", _decode_time, _encode_time),
    Attribute("Beat", "beat", _decode_number),
    Attribute("SeenAt", "seen_at", _decode_time, _encode_time),
    Attribute("Host", "host", _decode_text),
    Attribute("PID", "pid", _decode_number),
    Attribute("Release", "release", _decode_text),
    Attribute("Actions", "actions", _decode_text_set, _encode_text_set),
    Attribute("Schedules", "schedules", _decode_text_set, _encode_text_set),
    Attribute("Concurrency", "concurrency", _decode_number),
    Attribute("InFlight", "in_flight", _decode_number),
    Attribute("Draining", "draining", _decode_flag),
    Attribute("Sweeps", "sweeps", _decode_number),
    Attribute("Lanes", "lanes", _decode_flag),
    Attribute("Pauses", "pauses", _decode_flag),
    Attribute("FleetShares", "shares", read_shares, write_shares, omit_zero=True),
    Attribute("Cancel", "cancel", _decode_text_set, _encode_text_set),
    Attribute("Drain", "drain", _decode_flag),
    Attribute("TTL", "ttl", _decode_number),
)
