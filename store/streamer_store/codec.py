"""Convert records to DynamoDB items and back (pure).

None and empty values are not written. Unknown attributes are ignored on reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING
from dataclasses import fields as fields_of
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, TypeVar, cast

from streamer_store.attempts import ATTEMPTS, attempts_value, read_attempts
from streamer_store.attributes import CONNECTION, REQUEST, SUBSCRIPTION, WORKER, Attribute
from streamer_store.errors import Undecodable, ValidationError
from streamer_store.lanes import LANE_ATTRIBUTES, Place, Priority, place_of, priority_of
from streamer_store.models import (
    AsyncRequest,
    Candidate,
    Connection,
    EventType,
    Subscription,
)
from streamer_store.times import NEVER, parse_time
from streamer_store.transitions import RequestStatus
from streamer_store.values import AttributeValue, Item, decode
from streamer_store.worker_row import WorkerRow

_REASON_CHARS: Final = 200
_UNREADABLE: Final = (ValueError, TypeError, ArithmeticError)
# The StartedAt of a worker whose own cannot be read. The leader is the worker that started
# first, so this one leads only if no other can.
_LAST_TO_LEAD: Final = datetime.max.replace(tzinfo=UTC)
_STATUSES: Final = frozenset(status.value for status in RequestStatus)
# The attributes that the indexes of waiting requests project, beside Status and Version.
_ENTRY_NAMES: Final = frozenset(
    {"Action", "TenantID", "CreatedAt", "RetryAfter", "WorkerID", "Rescues", "Priority"}
)
# By name, in the same order.
_READ_ENTRY: Final = {
    attribute.name: attribute for attribute in REQUEST if attribute.name in _ENTRY_NAMES
}
_READ_CONNECTION: Final = {attribute.name: attribute for attribute in CONNECTION}
_READ_REQUEST: Final = {attribute.name: attribute for attribute in REQUEST}
_READ_SUBSCRIPTION: Final = {attribute.name: attribute for attribute in SUBSCRIPTION}
_READ_WORKER: Final = {attribute.name: attribute for attribute in WORKER}
_Record = TypeVar("_Record", Connection, AsyncRequest, Subscription, WorkerRow)


def connection_item(record: Connection) -> Item:
    """Return the item for `record`. Raises ValidationError."""
    return _write(record, CONNECTION)


def request_item(record: AsyncRequest) -> Item:
    """Return the item for `record`. Raises ValidationError when a value cannot be stored."""
    item = _write(record, REQUEST)
    if record.attempts:
        item[ATTEMPTS] = attempts_value(record.attempts)
    return item


def subscription_item(record: Subscription) -> Item:
    """Return the item for `record`. Raises ValidationError."""
    return {"SubscriptionID": {"S": record.subscription_id}} | dict(_write(record, SUBSCRIPTION))


def worker_item(record: WorkerRow) -> Item:
    """Return the item for `record`. Raises ValidationError."""
    return _write(record, WORKER)


def connection(item: Item) -> Connection:
    """Return the record for `item`. Raises Undecodable."""
    return _read(item, _READ_CONNECTION, Connection, "ConnectionID")


def request(item: Item) -> AsyncRequest:
    """Return the record for `item`. An absent MaxRetries is 3. Raises Undecodable.

    What is not an attempt in Attempts is left out: it must not keep the request from running.
    """
    fields = _fields(item, _READ_REQUEST, "RequestID")
    if not fields.get("request_id") or "status" not in fields:
        raise Undecodable("RequestID or Status is missing", key=raw_text(item, "RequestID"))
    if ATTEMPTS in item:
        fields["attempts"] = read_attempts(item[ATTEMPTS])
    return _build(AsyncRequest, _READ_REQUEST, fields, raw_text(item, "RequestID"))


def subscription(item: Item) -> Subscription:
    """Return the record for `item`. Raises Undecodable.

    Event types that this release does not know are in `unknown_event_types`.
    """
    fields = _fields(item, _READ_SUBSCRIPTION, "SubscriptionID")
    stored = fields.get("event_types")
    if stored is not None:
        fields["event_types"] = frozenset(
            event_type for event_type in EventType if event_type.value in stored
        )
        fields["unknown_event_types"] = stored - fields["event_types"]
    return _build(Subscription, _READ_SUBSCRIPTION, fields, raw_text(item, "SubscriptionID"))


def worker(item: Item) -> WorkerRow:
    """Return the record for a worker's row.

    An attribute that cannot be read is left out, and `broken` describes it: another release may
    write it differently, and a live worker must not be declared dead for that. Raises
    Undecodable for a row without StartedAt, which is not the row of a running worker.
    """
    fields, broken = _readable_fields(item, _READ_WORKER)
    if "StartedAt" in item:
        fields.setdefault("started_at", _LAST_TO_LEAD)
    return _build(WorkerRow, _READ_WORKER, fields | {"broken": broken}, raw_text(item, "WorkerID"))


def candidate(item: Item) -> Candidate:
    """Return the candidate for an entry of StatusIndex.

    An attribute that cannot be read is left out, and `broken` describes it. Raises Undecodable
    for a Status that this release does not know.
    """
    return Candidate(**_candidate_fields(item))


def due_entry(item: Item) -> Candidate:
    """Return the candidate for an entry of DueIndex, as `candidate` does, and with `misplaced`."""
    fields = _candidate_fields(item)
    place = place_of(
        fields["status"],
        fields.get("priority"),
        created_at=fields.get("created_at"),
        retry_after=fields.get("retry_after"),
    )
    return Candidate(**fields, misplaced=not is_at(item, place))


def is_at(item: Item, place: Place | None) -> bool:
    """Return whether the item's lane and DueAt are those of `place`, or absent if it is None."""
    stored = {name: item[name] for name in LANE_ATTRIBUTES if name in item}
    return stored == ({} if place is None else place.values())


def last_heard(item: Item) -> datetime:
    """Return a connection's LastPing, or its ConnectedAt where there is none.

    Raises Undecodable where neither is there, or one cannot be read.
    """
    fields = _fields(item, _READ_CONNECTION, "ConnectionID")
    moment = fields.get("last_ping") or fields.get("connected_at")
    if moment in {None, NEVER}:
        raise Undecodable(
            "LastPing and ConnectedAt are missing", key=raw_text(item, "ConnectionID")
        )
    return cast("datetime", moment)


def raw_text(item: Item, name: str) -> str:
    """Return the text of an attribute, or an empty text where it is absent or not text."""
    text = item.get(name, {}).get("S", "")
    return text if isinstance(text, str) else ""


def raw_time(item: Item, name: str) -> datetime | None:
    """Return the time of an attribute, or None where it is absent or cannot be read."""
    with suppress(ValueError):
        return parse_time(raw_text(item, name))
    return None


def window_end(item: Item) -> datetime | None:
    """Return when a COMPLETED request frees its unique key. None: it has done so at its end.

    Raises Undecodable where that cannot be read.
    """
    names = ("UniqueFor", "ProcessingEnded")
    fields = _fields(item, {name: _READ_REQUEST[name] for name in names}, "RequestID")
    if "unique_for" not in fields:
        return None
    ended = fields.get("processing_ended")
    if ended is None:
        raise Undecodable("ProcessingEnded is missing", key=raw_text(item, "RequestID"))
    return cast("datetime", ended + fields["unique_for"])


def raw_priority(item: Item) -> Priority | None:
    """Return the Priority of an item. None: normal."""
    return priority_of(raw_text(item, "Priority"))


def _candidate_fields(item: Item) -> dict[str, Any]:
    text = raw_text(item, "Status")
    if text not in _STATUSES:
        reason = f"Status: {text[:_REASON_CHARS]!r} is not known to this release"
        raise Undecodable(reason, key=raw_text(item, "RequestID"))
    fields, broken = _readable_fields(item, _READ_ENTRY)
    version = item.get("Version")
    if version is not None and "S" not in version:
        broken = f"Version: expected text, found type {', '.join(version)}"
    fields["request_id"] = raw_text(item, "RequestID")
    return fields | {"status": RequestStatus(text), "seen_version": version, "broken": broken}


def _write(record: Any, attributes: tuple[Attribute, ...]) -> dict[str, AttributeValue]:
    item = {}
    for attribute in attributes:
        value = getattr(record, attribute.field)
        if value is None or (not attribute.keep_empty and value in ("", frozenset())):
            continue
        if attribute.omit_zero and not value:
            continue
        item[attribute.name] = attribute.write(value, attribute.field)
    return item


def _read(
    item: Item, attributes: Mapping[str, Attribute], record: type[_Record], key: str
) -> _Record:
    return _build(record, attributes, _fields(item, attributes, key), raw_text(item, key))


def _build(
    record: type[_Record], attributes: Mapping[str, Attribute], fields: dict[str, Any], key: str
) -> _Record:
    """Return the record with these fields. Raises Undecodable; `key` is for the error."""
    kind: Any = record
    required = _required_fields(kind)
    if not required <= fields.keys():
        missing = [
            attribute.name
            for attribute in attributes.values()
            if attribute.field in required and attribute.field not in fields
        ]
        verb = "is" if len(missing) == 1 else "are"
        raise Undecodable(f"{' and '.join(missing)} {verb} missing", key=key)
    try:
        return record(**fields)
    except ValidationError as error:
        raise Undecodable(error.message, key=key) from error


@cache
def _required_fields(record: type[Any]) -> frozenset[str]:
    """Return the fields of a record that have no default."""
    return frozenset(
        field.name
        for field in fields_of(record)
        if field.default is MISSING and field.default_factory is MISSING
    )


def _fields(item: Item, attributes: Mapping[str, Attribute], key: str) -> dict[str, Any]:
    """Return the decoded fields of an item. `key` is the name of its hash key, for errors."""
    try:
        return _decode_known(item, attributes)
    except _UNREADABLE:
        # The error names the first attribute that is broken, in the order of the table.
        try:
            return _decode_in_order(item, attributes)
        except Undecodable as error:
            error.key = raw_text(item, key)
            raise


def _readable_fields(
    item: Item, attributes: Mapping[str, Attribute]
) -> tuple[dict[str, Any], str | None]:
    """Return the fields that can be decoded, and what is wrong with one that cannot."""
    try:
        return _decode_known(item, attributes), None
    except _UNREADABLE:
        fields: dict[str, Any] = {}
        broken = None
        for attribute in attributes.values():
            try:
                fields |= _decode_in_order(item, {attribute.name: attribute})
            except Undecodable as error:
                broken = error.reason
        return fields, broken


def _decode_known(item: Item, attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """Return the decoded fields of an item. Raises an error of `_UNREADABLE`, without a name."""
    fields = {}
    for name, stored in item.items():
        attribute = attributes.get(name)
        if attribute is not None:
            value = decode(stored)
            if value is not None and (value := attribute.read(value)) is not None:
                fields[attribute.field] = value
    return fields


def _decode_in_order(item: Item, attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """As `_decode_known`, but raises Undecodable for the first attribute that is broken."""
    fields: dict[str, Any] = {}
    for name in attributes:
        if name in item:
            try:
                fields |= _decode_known({name: item[name]}, attributes)
            except _UNREADABLE as error:
                raise Undecodable(f"{name}: {str(error)[:_REASON_CHARS]}") from error
    return fields
