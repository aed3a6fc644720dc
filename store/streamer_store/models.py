"""The records, validated when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from streamer_store.errors import ValidationError
from streamer_store.transitions import RequestStatus
from streamer_store.values import short_repr

DEFAULT_MAX_RETRIES = 3
# A larger one could not be counted up: DynamoDB keeps 38 digits, and JSON's readers fewer.
LARGEST_COUNT = 2**53 - 1


class EventType(StrEnum):
    PROGRESS = "progress"
    COMPLETE = "complete"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """A WebSocket connection. `ttl` is in epoch seconds; None means 24 hours from saving.

    `connected_at` is in the year 1 where a producer in Go has stored no time.
    """

    connection_id: str
    user_id: str
    tenant_id: str
    endpoint: str
    connected_at: datetime
    last_ping: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    ttl: int | None = None

    def __post_init__(self) -> None:
        for name in ("connection_id", "user_id", "tenant_id", "endpoint"):
            require_text(name, getattr(self, name))
        require_time("connected_at", self.connected_at)
        optional_time("last_ping", self.last_ping)
        _text_mapping("metadata", self.metadata)
        _whole("ttl", self.ttl)


@dataclass(frozen=True, kw_only=True, slots=True)
class AsyncRequest:
    """A queued request, as one row of the table.

    Producers give `action` and what else they know: enqueueing fills in `request_id` (when it
    is empty), `created_at` and `ttl`, and returns the record that was stored. `progress` is a
    fraction, 0 to 1. `max_retries` counts the attempts after the first.

    `rescues`: how often a worker was lost while it held the request. `solo`: how many of the
    last ones, in a row, fell into its probation. `alone`: the Version of the last claim that
    put it in probation (`rescues.py`).
    """

    action: str
    payload: Mapping[str, Any] | None = None
    request_id: str = ""
    connection_id: str | None = None
    user_id: str | None = None
    tenant_id: str | None = None
    status: RequestStatus = RequestStatus.PENDING
    created_at: datetime | None = None
    processing_started: datetime | None = None
    processing_ended: datetime | None = None
    result: Mapping[str, Any] | None = None
    error: str | None = None
    error_code: str | None = None
    progress: float = 0.0
    progress_message: str | None = None
    progress_details: Mapping[str, Any] | None = None
    retry_count: int = 0
    max_retries: int = DEFAULT_MAX_RETRIES
    retry_after: datetime | None = None
    ttl: int | None = None
    version: str | None = None
    worker_id: str | None = None
    write_seq: int = 0
    checkpoint: Any = None
    rescues: int = 0
    solo: int = 0
    alone: str | None = None

    def __post_init__(self) -> None:
        require_text("action", self.action)
        _any_text("request_id", self.request_id)
        for name in ("connection_id", "user_id", "tenant_id", "worker_id", "version", "alone"):
            if getattr(self, name) is not None:
                require_text(name, getattr(self, name))
        for name in ("error", "error_code", "progress_message"):
            if getattr(self, name) is not None:
                _any_text(name, getattr(self, name))
        if not isinstance(self.status, RequestStatus):
            raise ValidationError("status", f"{short_repr(self.status)} is not a request status")
        require_fraction("progress", self.progress)
        for name in ("retry_count", "max_retries", "write_seq", "ttl", "rescues", "solo"):
            _whole(name, getattr(self, name))
        for name in ("created_at", "processing_started", "processing_ended", "retry_after"):
            optional_time(name, getattr(self, name))
        for name in ("payload", "result", "progress_details"):
            document = getattr(self, name)
            if document is not None and not isinstance(document, Mapping):
                raise ValidationError(name, "must be a mapping")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The `_metadata` map that a router put into the payload, or an empty one."""
        found = (self.payload or {}).get("_metadata")
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request is: a fraction from 0 to 1, a message, details. None says nothing."""

    fraction: float | None = None
    message: str | None = None
    details: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None:
            require_fraction("progress", self.fraction)
        if self.message is not None:
            _any_text("message", self.message)
        if self.details is not None and not isinstance(self.details, Mapping):
            raise ValidationError(
                "details", f"must be a mapping, not {type(self.details).__name__}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """Whoever is behind `connection_id` wants these events of the request.

    `unknown_event_types` are those in the table that this release does not know. They are not
    written.
    """

    connection_id: str
    request_id: str
    event_types: frozenset[EventType] = frozenset(EventType)
    created_at: datetime | None = None
    ttl: int | None = None
    unknown_event_types: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        require_text("connection_id", self.connection_id)
        require_text("request_id", self.request_id)
        if "#" in self.connection_id:
            raise ValidationError("connection_id", "must not contain '#', which joins the key")
        if not self.event_types and not self.unknown_event_types:
            raise ValidationError("event_types", "must name at least one event type")
        for each in self.event_types:
            if not isinstance(each, EventType):
                raise ValidationError("event_types", f"{short_repr(each)} is not an event type")
        optional_time("created_at", self.created_at)
        _whole("ttl", self.ttl)

    @property
    def subscription_id(self) -> str:
        return f"{self.connection_id}#{self.request_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRow:
    """One live worker: its presence, its part in the fleet, and its mailbox.

    `cancel` holds the Versions of cancelled requests, `drain` asks it to finish and go.
    `broken` says what of the row could not be read; it is not stored.
    """

    worker_id: str
    started_at: datetime
    beat: int = 0
    seen_at: datetime | None = None
    host: str = ""
    pid: int = 0
    release: str = ""
    actions: frozenset[str] = frozenset()
    concurrency: int = 0
    in_flight: int = 0
    draining: bool = False
    sweeps: int = 0
    cancel: frozenset[str] = frozenset()
    drain: bool = False
    ttl: int | None = None
    broken: str | None = None

    def __post_init__(self) -> None:
        require_text("worker_id", self.worker_id)
        for name in ("host", "release"):
            _any_text(name, getattr(self, name))
        require_time("started_at", self.started_at)
        optional_time("seen_at", self.seen_at)
        for name in ("beat", "pid", "concurrency", "in_flight", "sweeps", "ttl"):
            _whole(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A request as StatusIndex shows it: a hint, decided by the claim.

    `seen_version` is the attribute value that the index held, of whatever type, or None.
    `broken` says why the entry cannot be read as it should; such a candidate can still be
    claimed, and fails. `rescues` is 0 where the index does not project Rescues.
    """

    request_id: str
    status: RequestStatus
    seen_version: Mapping[str, Any] | None = None
    action: str | None = None
    tenant_id: str | None = None
    created_at: datetime | None = None
    retry_after: datetime | None = None
    worker_id: str | None = None
    rescues: int = 0
    broken: str | None = None

    def due(self, now: datetime) -> bool:
        """Whether it may be claimed at `now`; only RETRYING waits for its RetryAfter."""
        if self.status is not RequestStatus.RETRYING or self.retry_after is None:
            return True
        return self.retry_after <= now


@dataclass(kw_only=True, slots=True)
class Claim:
    """The right to write to a running request until it is settled.

    `version` is the handle that every write carries. `write_seq` numbers the claim's writes of
    progress and checkpoints; the store counts it up.
    """

    request: AsyncRequest
    version: str
    write_seq: int = 0

    @property
    def request_id(self) -> str:
        return self.request.request_id

    def next_seq(self) -> int:
        self.write_seq += 1
        return self.write_seq


def require_text(name: str, value: object) -> None:
    _any_text(name, value)
    if not value:
        raise ValidationError(name, "must not be empty")


def known_status(value: object) -> RequestStatus:
    """Return the status that `value` is, or names. Raises ValidationError."""
    try:
        return RequestStatus(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValidationError("status", f"{short_repr(value)} is not a request status") from error


def require_limit(value: object) -> int:
    """Return a limit, which is a whole number from 1 on. Raises ValidationError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValidationError(
            "limit", f"must be a whole number, 1 or more, not {short_repr(value)}"
        )
    return value


def require_fraction(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:  # type: ignore[operator]
        raise ValidationError(
            name, f"must be a finite fraction from 0 to 1, not {short_repr(value)}"
        )


def require_time(name: str, value: object) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValidationError(name, "must be a datetime with a time zone")
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise ValidationError(name, "must lie in the years 1 to 9999, in UTC") from error


def optional_time(name: str, value: object) -> None:
    if value is not None:
        require_time(name, value)


def _any_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValidationError(name, f"must be text, not {type(value).__name__}")


def _whole(name: str, value: object) -> None:
    if value is None and name == "ttl":
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 0 <= value <= LARGEST_COUNT:  # type: ignore[operator]
        raise ValidationError(
            name, f"must be a whole number from 0 to {LARGEST_COUNT}, not {short_repr(value)}"
        )


def _text_mapping(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ValidationError(name, "must be a mapping of text to text")
    for key, each in value.items():
        if not isinstance(key, str) or not isinstance(each, str):
            raise ValidationError(name, f"{short_repr(key)} must map text to text")
