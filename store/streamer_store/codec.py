"""Records <-> DynamoDB items (pure). Attribute names are shared with the Go store.

Absent values are not written. Attributes that are not listed here are ignored when reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from dataclasses import fields as fields_of
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar, cast

from streamer_store.errors import Undecodable, ValidationError
from streamer_store.models import (
    DEFAULT_MAX_RETRIES,
    AsyncRequest,
    Candidate,
    Connection,
    EventType,
    Subscription,
    WorkerRow,
)
from streamer_store.times import NEVER, format_time, parse_time
from streamer_store.transitions import RequestStatus
from streamer_store.validation import LARGEST_COUNT
from streamer_store.values import AttributeValue, Item, decode, encode, encode_document

_REASON_CHARS: Final = 200
# When a row does not tell when its worker started: that one leads when nobody else can.
_LAST_TO_LEAD: Final = datetime.max.replace(tzinfo=UTC)
_Record = TypeVar("_Record", Connection, AsyncRequest, Subscription, WorkerRow)


@dataclass(frozen=True, slots=True)
class _Attribute:
    """`empties`: empty text is a value of its own, not another way to say absent.

    `sparse`: 0 is not written.
    """

    name: str
    field: str
    read: Callable[[Any], Any]
    write: Callable[[Any, str], AttributeValue] = encode
    empties: bool = False
    sparse: bool = False


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {type(value).__name__}")
    return value or None


def _time(value: Any) -> Any:
    text = _text(value)
    return None if text is None else parse_time(text)


def _connected_at(value: Any) -> Any:
    """Read a time that every connection must have: Go's zero time stays what it is."""
    text = _text(value)
    return None if text is None else parse_time(text) or NEVER


def _write_time(value: Any, _field: str) -> AttributeValue:
    return {"S": format_time(value)}


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"expected a number, found {type(value).__name__}")
    return float(value) if isinstance(value, Decimal) else value


def _count(value: Any) -> int:
    number = _number(value)
    if not isinstance(number, int) or not 0 <= number <= LARGEST_COUNT:
        raise ValueError(f"expected a whole number from 0 to {LARGEST_COUNT}, found {value}")
    return number


def _document(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a map, found {type(value).__name__}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {type(value).__name__}")
    return value


def _texts(value: Any) -> frozenset[str]:
    if not isinstance(value, set | list):
        raise ValueError(f"expected a set of text, found {type(value).__name__}")
    return frozenset(str(each) for each in value)


def _write_set(value: frozenset[str], field: str) -> AttributeValue:
    return encode({str(each) for each in value}, field)


CONNECTION: Final = (
    _Attribute("ConnectionID", "connection_id", _text),
    _Attribute("UserID", "user_id", _text),
    _Attribute("TenantID", "tenant_id", _text),
    _Attribute("Endpoint", "endpoint", _text),
    _Attribute("ConnectedAt", "connected_at", _connected_at, _write_time),
    _Attribute("LastPing", "last_ping", _time, _write_time),
    _Attribute("Metadata", "metadata", _document, encode_document),
    _Attribute("TTL", "ttl", _number),
)

REQUEST: Final = (
    _Attribute("RequestID", "request_id", _text),
    _Attribute("ConnectionID", "connection_id", _text),
    _Attribute("Status", "status", RequestStatus, lambda status, _: {"S": status.value}),
    _Attribute("CreatedAt", "created_at", _time, _write_time),
    _Attribute("Action", "action", _text),
    _Attribute("Payload", "payload", _document, encode_document),
    _Attribute("ProcessingStarted", "processing_started", _time, _write_time),
    _Attribute("ProcessingEnded", "processing_ended", _time, _write_time),
    _Attribute("Result", "result", _document, encode_document),
    _Attribute("Error", "error", _text),
    _Attribute("ErrorCode", "error_code", _text),
    _Attribute("Progress", "progress", _number),
    _Attribute("ProgressMessage", "progress_message", _text),
    _Attribute("ProgressDetails", "progress_details", _document, encode_document),
    _Attribute("RetryCount", "retry_count", _count),
    _Attribute("MaxRetries", "max_retries", _count),
    _Attribute("RetryAfter", "retry_after", _time, _write_time),
    _Attribute("UserID", "user_id", _text),
    _Attribute("TenantID", "tenant_id", _text),
    _Attribute("TTL", "ttl", _number),
    _Attribute("Version", "version", _text),
    _Attribute("WorkerID", "worker_id", _text),
    _Attribute("WriteSeq", "write_seq", _count),
    _Attribute("Checkpoint", "checkpoint", lambda value: value, empties=True),
    _Attribute("Rescues", "rescues", _count, sparse=True),
    _Attribute("Solo", "solo", _count, sparse=True),
    _Attribute("Alone", "alone", _text),
)

SUBSCRIPTION: Final = (
    _Attribute("ConnectionID", "connection_id", _text),
    _Attribute("RequestID", "request_id", _text),
    _Attribute("EventTypes", "event_types", _texts, _write_set),
    _Attribute("CreatedAt", "created_at", _time, _write_time),
    _Attribute("TTL", "ttl", _number),
)

WORKER: Final = (
    _Attribute("WorkerID", "worker_id", _text),
    _Attribute("StartedAt", "started_at", _time, _write_time),
    _Attribute("Beat", "beat", _number),
    _Attribute("SeenAt", "seen_at", _time, _write_time),
    _Attribute("Host", "host", _text),
    _Attribute("PID", "pid", _number),
    _Attribute("Release", "release", _text),
    _Attribute("Actions", "actions", _texts, _write_set),
    _Attribute("Concurrency", "concurrency", _number),
    _Attribute("InFlight", "in_flight", _number),
    _Attribute("Draining", "draining", _flag),
    _Attribute("Sweeps", "sweeps", _number),
    _Attribute("Cancel", "cancel", _texts, _write_set),
    _Attribute("Drain", "drain", _flag),
    _Attribute("TTL", "ttl", _number),
)


def connection_item(record: Connection) -> Item:
    return _write(record, CONNECTION)


def request_item(record: AsyncRequest) -> Item:
    """Return the item for `record`. Raises ValidationError when a value cannot be stored."""
    return _write(record, REQUEST)


def subscription_item(record: Subscription) -> Item:
    return {"SubscriptionID": {"S": record.subscription_id}} | dict(_write(record, SUBSCRIPTION))


def worker_item(record: WorkerRow) -> Item:
    return _write(record, WORKER)


def connection(item: Item) -> Connection:
    return _read(item, CONNECTION, Connection, "ConnectionID")


def request(item: Item) -> AsyncRequest:
    """Return the record for `item`; an absent MaxRetries is 3. Raises Undecodable."""
    fields = _fields(item, REQUEST, "RequestID")
    fields.setdefault("max_retries", DEFAULT_MAX_RETRIES)
    if not fields.get("request_id") or "status" not in fields:
        raise Undecodable("RequestID or Status is missing", key=raw_text(item, "RequestID"))
    return _build(AsyncRequest, REQUEST, fields, raw_text(item, "RequestID"))


def subscription(item: Item) -> Subscription:
    """Return the record for `item`. Raises Undecodable.

    Event types that this release does not know are kept apart: the known ones count.
    """
    fields = _fields(item, SUBSCRIPTION, "SubscriptionID")
    stored = fields.get("event_types")
    if stored is not None:
        fields["event_types"] = frozenset(each for each in EventType if each.value in stored)
        fields["unknown_event_types"] = stored - fields["event_types"]
    return _build(Subscription, SUBSCRIPTION, fields, raw_text(item, "SubscriptionID"))


def worker(item: Item) -> WorkerRow:
    """Return what can be read of a worker's row; `broken` says what cannot.

    A live worker must not be taken for gone because of an attribute that another release
    writes in another way. Raises Undecodable for a row without StartedAt, which no beat keeps.
    """
    found, broken = _readable(item, WORKER)
    if "StartedAt" in item:
        found.setdefault("started_at", _LAST_TO_LEAD)
    return _build(WorkerRow, WORKER, found | {"broken": broken}, raw_text(item, "WorkerID"))


def candidate(item: Item) -> Candidate:
    """Return what StatusIndex says of a request. A wrong entry comes back `broken`, never lost."""
    wanted = {"Action", "TenantID", "CreatedAt", "RetryAfter", "WorkerID", "Rescues"}
    fields, broken = _readable(item, [each for each in REQUEST if each.name in wanted])
    version = item.get("Version")
    if version is not None and "S" not in version:
        broken = f"Version: expected text, found type {', '.join(version)}"
    return Candidate(
        request_id=raw_text(item, "RequestID"),
        status=RequestStatus(raw_text(item, "Status")),
        seen_version=version,
        broken=broken,
        **fields,
    )


def last_heard(item: Item) -> datetime:
    """Return a connection's LastPing, or else its ConnectedAt. Raises Undecodable."""
    fields = _fields(item, CONNECTION, "ConnectionID")
    heard = fields.get("last_ping") or fields.get("connected_at")
    if heard in {None, NEVER}:
        raise Undecodable(
            "LastPing and ConnectedAt are missing", key=raw_text(item, "ConnectionID")
        )
    return cast("datetime", heard)


def raw_text(item: Item, name: str) -> str:
    """Return the text of an attribute without judging the rest; empty when it is not text."""
    found = item.get(name, {}).get("S", "")
    return found if isinstance(found, str) else ""


def _write(record: Any, attributes: tuple[_Attribute, ...]) -> dict[str, AttributeValue]:
    item = {}
    for attribute in attributes:
        value = getattr(record, attribute.field)
        if value is None or (not attribute.empties and value in ("", frozenset())):
            continue
        if attribute.sparse and not value:
            continue
        item[attribute.name] = attribute.write(value, attribute.field)
    return item


def _read(
    item: Item, attributes: tuple[_Attribute, ...], record: type[_Record], key: str
) -> _Record:
    return _build(record, attributes, _fields(item, attributes, key), raw_text(item, key))


def _build(
    record: type[_Record], attributes: tuple[_Attribute, ...], found: dict[str, Any], key: str
) -> _Record:
    required = {
        each.name
        for each in fields_of(record)
        if each.default is MISSING and each.default_factory is MISSING
    }
    missing = [each.name for each in attributes if each.field in required - found.keys()]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise Undecodable(f"{' and '.join(missing)} {verb} missing", key=key)
    try:
        return record(**found)
    except ValidationError as error:
        raise Undecodable(error.message, key=key) from error


def _fields(item: Item, attributes: tuple[_Attribute, ...], key: str) -> dict[str, Any]:
    fields = {}
    for attribute in attributes:
        if attribute.name not in item:
            continue
        try:
            value = _attribute(item, attribute)
        except Undecodable as error:
            error.key = raw_text(item, key)
            raise
        if value is not None:
            fields[attribute.field] = value
    return fields


def _readable(item: Item, attributes: Iterable[_Attribute]) -> tuple[dict[str, Any], str | None]:
    """Return the fields that can be read, and what is wrong with one that cannot."""
    fields = {}
    broken = None
    for attribute in attributes:
        if attribute.name in item:
            try:
                value = _attribute(item, attribute)
            except Undecodable as error:
                broken = error.reason
            else:
                if value is not None:
                    fields[attribute.field] = value
    return fields, broken


def _attribute(item: Item, attribute: _Attribute) -> Any:
    try:
        value = decode(item[attribute.name])
        return None if value is None else attribute.read(value)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise Undecodable(f"{attribute.name}: {str(error)[:_REASON_CHARS]}") from error
