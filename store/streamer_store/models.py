"""The records of the tables. Each validates its fields when it is created.

Every datetime has a time zone. A field that is None has no attribute in the item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from streamer_store.attempts import Attempt, require_attempts
from streamer_store.errors import ValidationError
from streamer_store.lanes import Priority
from streamer_store.transitions import DELAYED, RequestStatus
from streamer_store.unique_keys import Enqueued
from streamer_store.validation import (
    require_count,
    require_fraction,
    require_optional_count,
    require_optional_duration,
    require_optional_time,
    require_string,
    require_text,
    require_text_mapping,
    require_time,
)
from streamer_store.values import short_repr

DEFAULT_MAX_RETRIES: Final = 3
_KEY_JOINT: Final = "#"


class EventType(StrEnum):
    """The kinds of messages that a connection can subscribe to."""

    PROGRESS = "progress"
    """The progress of a running request changed."""
    COMPLETE = "complete"
    """The request is COMPLETED. The message has its result."""
    ERROR = "error"
    """The request is FAILED or CANCELLED. The message has its error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """An open WebSocket connection. Raises ValidationError for a wrong field."""

    connection_id: str
    """The key of the item, as API Gateway assigned it."""
    user_id: str
    """The user who opened the connection."""
    tenant_id: str
    """The tenant of the user."""
    endpoint: str
    """The URL of the push service that sends messages to the connection."""
    connected_at: datetime
    """When it was opened. In the year 1 if the Go store wrote no time."""
    last_ping: datetime | None = None
    """When the client was last heard from. None: not since it connected."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Strings that the router stored with the connection."""
    ttl: int | None = None
    """Epoch seconds after which DynamoDB deletes the item. None: 24 hours after it is saved."""

    def __post_init__(self) -> None:
        for name in ("connection_id", "user_id", "tenant_id", "endpoint"):
            require_text(name, getattr(self, name))
        require_time("connected_at", self.connected_at)
        require_optional_time("last_ping", self.last_ping)
        require_text_mapping("metadata", self.metadata)
        require_optional_count("ttl", self.ttl)


@dataclass(frozen=True, kw_only=True, slots=True)
class AsyncRequest:
    """A queued request. Raises ValidationError for a wrong field.

    A producer sets `action` and, if it wants, `payload`, the ids, `max_retries` and `ttl`.
    `enqueue` sets `request_id`, `created_at` and `ttl` if they are missing, and `version`.
    The store sets the other fields.
    """

    action: str
    """The name of the handler to run."""
    payload: Mapping[str, Any] | None = None
    """The input of the handler. None: no input."""
    request_id: str = ""
    """The key of the item. Empty: `enqueue` creates a UUID."""
    connection_id: str | None = None
    """The connection that sent the request and receives its messages. None: there is none."""
    user_id: str | None = None
    """The user who sent the request. None: unknown."""
    tenant_id: str | None = None
    """The tenant of the user. Limits per tenant use it. None: unknown."""
    status: RequestStatus = RequestStatus.PENDING
    """The state of the request. A new request must be PENDING: `enqueue` may make it SCHEDULED."""
    created_at: datetime | None = None
    """When the request was enqueued. The indexes sort by it. None: `enqueue` sets it to now."""
    processing_started: datetime | None = None
    """When the last attempt was claimed. None: never, or that claim was released."""
    processing_ended: datetime | None = None
    """When the last attempt or the request ended. None: it runs, or no attempt has ended."""
    result: Mapping[str, Any] | None = None
    """What the handler returned. None: the request is not COMPLETED, or there is no result."""
    error: str | None = None
    """The error text of the last failed attempt. A claim removes it."""
    error_code: str | None = None
    """The code that belongs to `error`, for example `TIMEOUT`. A claim removes it."""
    progress: float = 0.0
    """How much of the work is done: a fraction from 0 to 1."""
    progress_message: str | None = None
    """The last message about progress. None: none was written."""
    progress_details: Mapping[str, Any] | None = None
    """The last details of progress. None: none were written."""
    retry_count: int = 0
    """How many attempts have failed and counted. A redrive sets it to 0."""
    max_retries: int = DEFAULT_MAX_RETRIES
    """How many attempts may follow the first. 0: none, not even after a worker was lost."""
    retry_after: datetime | None = None
    """When a RETRYING or SCHEDULED request becomes due, and a new one may run. None: at once."""
    ttl: int | None = None
    """Epoch seconds after which DynamoDB deletes the item. None: `enqueue` sets 7 days."""
    version: str | None = None
    """A UUID that changes with every change of status. None: the Go store wrote the item."""
    worker_id: str | None = None
    """The worker of the last attempt. None: the request waits, or a simple consumer has it."""
    write_seq: int = 0
    """The number of the last write of progress or a checkpoint within the claim."""
    checkpoint: Any = None
    """What the last attempt stored to resume from. None: nothing."""
    rescues: int = 0
    """How many workers were lost while they held the request. A retry that counts removes it."""
    solo: int = 0
    """How many of the last rescues in a row were in probation (docs/failures.md)."""
    alone: str | None = None
    """The Version of the last claim that started a probation. None: no claim did."""
    priority: Priority | None = None
    """How urgent the request is. None: normal."""
    attempts: tuple[Attempt, ...] = ()
    """The last attempts that failed, the oldest first: 10 at most, and 3 KB. Redrives keep them."""
    unique_key: str | None = None
    """The tenant has at most one request of the action with this key at a time. None: any number.
    `enqueue` derives the id from it, so leave `request_id` out (docs/scheduling.md)."""
    unique_for: timedelta | None = None
    """How long after it is COMPLETED the key stays taken: 30 days at most. None: not at all."""
    unique_run: str | None = None
    """The Version with which a request with a unique key was enqueued. A redrive keeps it."""
    enqueued: Enqueued | None = field(default=None, compare=False)
    """What `enqueue` did. It is not stored. None: the request was read."""

    def __post_init__(self) -> None:
        require_text("action", self.action)
        require_string("request_id", self.request_id)
        for name in (
            *("connection_id", "user_id", "tenant_id", "worker_id", "version", "alone"),
            *("unique_key", "unique_run"),
        ):
            if getattr(self, name) is not None:
                require_text(name, getattr(self, name))
        for name in ("error", "error_code", "progress_message"):
            if getattr(self, name) is not None:
                require_string(name, getattr(self, name))
        if not isinstance(self.status, RequestStatus):
            raise ValidationError("status", f"{short_repr(self.status)} is not a request status")
        _require_optional_priority(self.priority)
        require_fraction("progress", self.progress)
        for name in ("retry_count", "max_retries", "write_seq", "rescues", "solo"):
            require_count(name, getattr(self, name))
        require_optional_count("ttl", self.ttl)
        for name in ("created_at", "processing_started", "processing_ended", "retry_after"):
            require_optional_time(name, getattr(self, name))
        for name in ("payload", "result", "progress_details"):
            document = getattr(self, name)
            if document is not None and not isinstance(document, Mapping):
                raise ValidationError(name, "must be a mapping")
        require_attempts("attempts", self.attempts)
        require_optional_duration("unique_for", self.unique_for)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The `_metadata` mapping that a router put into the payload. Empty if there is none."""
        metadata = (self.payload or {}).get("_metadata")
        return metadata if isinstance(metadata, Mapping) else {}


def _require_optional_priority(value: object) -> None:
    if value is not None and not isinstance(value, Priority):
        raise ValidationError("priority", f"{short_repr(value)} is not a priority")


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of progress. A field that is None leaves the stored value unchanged."""

    fraction: float | None = None
    """How much of the work is done, from 0 to 1."""
    message: str | None = None
    """A text for the user."""
    details: Mapping[str, Any] | None = None
    """Any values that DynamoDB can store. They replace all earlier details."""

    def __post_init__(self) -> None:
        if self.fraction is not None:
            require_fraction("progress", self.fraction)
        if self.message is not None:
            require_string("message", self.message)
        if self.details is not None and not isinstance(self.details, Mapping):
            raise ValidationError(
                "details", f"must be a mapping, not {type(self.details).__name__}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """A connection's wish to receive messages about a request."""

    connection_id: str
    """The connection that receives the messages. It must not contain `#`."""
    request_id: str
    """The request that the messages are about."""
    event_types: frozenset[EventType] = frozenset(EventType)
    """The kinds of messages to send. At least one. Default: all."""
    created_at: datetime | None = None
    """When the connection first subscribed. None: not known."""
    ttl: int | None = None
    """Epoch seconds after which DynamoDB deletes the item. `subscribe` sets 24 hours."""
    unknown_event_types: frozenset[str] = frozenset()
    """Stored kinds that this release does not know. They are never written."""

    def __post_init__(self) -> None:
        require_text("connection_id", self.connection_id)
        require_text("request_id", self.request_id)
        if _KEY_JOINT in self.connection_id:
            raise ValidationError("connection_id", "must not contain '#', which joins the key")
        if not self.event_types and not self.unknown_event_types:
            raise ValidationError("event_types", "must name at least one event type")
        for event_type in self.event_types:
            if not isinstance(event_type, EventType):
                raise ValidationError(
                    "event_types", f"{short_repr(event_type)} is not an event type"
                )
        require_optional_time("created_at", self.created_at)
        require_optional_count("ttl", self.ttl)

    @property
    def subscription_id(self) -> str:
        """The key of the item: `<connection_id>#<request_id>`."""
        return f"{self.connection_id}{_KEY_JOINT}{self.request_id}"


def request_of_subscription(subscription_id: str) -> str | None:
    """Return the request id in the key of a subscription. None: another program's key."""
    _, joint, request_id = subscription_id.partition(_KEY_JOINT)
    return request_id if joint else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An entry of StatusIndex or DueIndex.

    The indexes lag, so only a claim shows whether the entry still holds.
    """

    request_id: str
    """The key of the request."""
    status: RequestStatus
    """The status that the index shows."""
    seen_version: Mapping[str, Any] | None = None
    """Version as an attribute value of any type, for example `{"S": ...}`. None: no Version."""
    action: str | None = None
    """The name of the handler. None: missing in the entry."""
    tenant_id: str | None = None
    """The tenant. None: unknown."""
    created_at: datetime | None = None
    """When the request was enqueued. None: missing in the entry."""
    retry_after: datetime | None = None
    """When a RETRYING or SCHEDULED request becomes due. None: at once."""
    worker_id: str | None = None
    """The worker of the last attempt. None: none, or it set no WorkerID."""
    rescues: int = 0
    """How many workers were lost with it. 0 also if the index does not project Rescues."""
    priority: Priority | None = None
    """How urgent it is. None: normal, or the entry is from StatusIndex, which does not show it."""
    misplaced: bool = False
    """Whether DueIndex shows it where its status, priority and times do not put it."""
    broken: str | None = None
    """What could not be decoded. None: nothing. A claim fails a broken request."""

    def due(self, now: datetime) -> bool:
        """Return whether the request may be claimed at `now`. PENDING requests always may."""
        if self.status not in DELAYED or self.retry_after is None:
            return True
        return self.retry_after <= now


@dataclass(kw_only=True, slots=True)
class Claim:
    """The right to write to a running request. It ends when the request is settled or taken."""

    request: AsyncRequest
    """The request as the claim found it."""
    version: str
    """The Version that the claim set. Every write of the holder requires it."""
    write_seq: int = 0
    """The number of the last write of progress or a checkpoint. The store increments it."""

    @property
    def request_id(self) -> str:
        """The key of the request."""
        return self.request.request_id

    def next_seq(self) -> int:
        """Increment `write_seq` and return it."""
        self.write_seq += 1  # FENCE-2: each write of a claim has a number of its own
        return self.write_seq
