"""Records are validated when they are created. Each error names its field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from streamer_store import (
    AsyncRequest,
    Attempt,
    Candidate,
    Claim,
    Connection,
    EventType,
    RequestStatus,
    Subscription,
    ValidationError,
    WorkerRow,
)
from streamer_store.values import short_repr

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
NAIVE = datetime(2026, 3, 14, 12)  # noqa: DTZ001  naive on purpose
TOO_EARLY = datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))
TOO_LATE = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))
NAN = float("nan")
LONG = 10**5000  # Python refuses to print it
VALID: dict[type[Any], dict[str, Any]] = {
    Connection: {
        "connection_id": "c1",
        "user_id": "u1",
        "tenant_id": "t1",
        "endpoint": "https://x",
        "connected_at": NOON,
    },
    AsyncRequest: {"action": "echo"},
    Subscription: {"connection_id": "c1", "request_id": "r1"},
    WorkerRow: {"worker_id": "w1", "started_at": NOON},
    Attempt: {"number": 1, "ended": NOON, "outcome": "failed"},
}
WRONG: list[tuple[type[Any], str, list[Any]]] = [
    (Connection, "connection_id", ["", None, 5]),
    (Connection, "user_id", ["", None, 5]),
    (Connection, "tenant_id", ["", None, 5]),
    (Connection, "endpoint", ["", None, 5]),
    (Connection, "connected_at", [None, NAIVE, "2026-03-14T12:00:00Z"]),
    (Connection, "last_ping", [NAIVE, 5, TOO_EARLY, TOO_LATE]),
    (Connection, "metadata", [None, [], "text", {"a": 1}, {1: "a"}, {"a": None}]),
    (Connection, "ttl", [-1, 1.5, "1", True]),
    (AsyncRequest, "action", ["", None, 5]),
    (AsyncRequest, "request_id", [None, 5]),
    (AsyncRequest, "connection_id", ["", 5]),
    (AsyncRequest, "user_id", ["", 5]),
    (AsyncRequest, "tenant_id", ["", 5]),
    (AsyncRequest, "worker_id", ["", 5]),
    (AsyncRequest, "version", ["", 5]),
    (AsyncRequest, "status", ["PENDING", "LOST", None]),
    (AsyncRequest, "progress", [-0.1, 1.1, 50, NAN, float("inf"), "0.5", None, True, LONG]),
    (AsyncRequest, "retry_count", [-1, 1.0, None, True, -LONG]),
    (AsyncRequest, "max_retries", [-1, 1.0, None, True]),
    (AsyncRequest, "write_seq", [-1, 1.0, None, True]),
    (AsyncRequest, "ttl", [-1, 1.5, "1", True]),
    (AsyncRequest, "created_at", [NAIVE, "2026-03-14T12:00:00Z"]),
    (AsyncRequest, "processing_started", [NAIVE]),
    (AsyncRequest, "processing_ended", [NAIVE]),
    (AsyncRequest, "retry_after", [NAIVE, timedelta(seconds=5)]),
    (AsyncRequest, "error", [5, b"text", ["text"]]),
    (AsyncRequest, "error_code", [5, b"text", ["text"]]),
    (AsyncRequest, "progress_message", [5, b"text", ["text"]]),
    (AsyncRequest, "payload", [[], "text", 5]),
    (AsyncRequest, "result", [[], "text", 5]),
    (AsyncRequest, "progress_details", [[], "text", 5]),
    (AsyncRequest, "attempts", [None, [], "text", ({"number": 1},)]),
    (Attempt, "number", [-1, 1.0, None, True, LONG]),
    (Attempt, "ended", [None, NAIVE, "2026-03-14T12:00:00Z"]),
    (Attempt, "started", [NAIVE, 5]),
    (Attempt, "outcome", ["", None, 5]),
    (Attempt, "worker_id", [5]),
    (Attempt, "error_code", [5]),
    (Attempt, "error_class", [ValueError]),
    (Attempt, "error", [5, b"text"]),
    (Subscription, "connection_id", ["", None, 5, "c#1", "#"]),
    (Subscription, "request_id", ["", None, 5]),
    (Subscription, "event_types", [frozenset(), None, "progress", {"progress"}, {5}]),
    (Subscription, "created_at", [NAIVE]),
    (Subscription, "ttl", [-1, 1.5]),
    (WorkerRow, "worker_id", ["", None, 5]),
    (WorkerRow, "host", [None, 5, b"text"]),
    (WorkerRow, "release", [None, 5, b"text"]),
    (WorkerRow, "started_at", [None, NAIVE]),
    (WorkerRow, "seen_at", [NAIVE]),
    (WorkerRow, "beat", [-1, 1.5, None]),
    (WorkerRow, "pid", [-1, None]),
    (WorkerRow, "concurrency", [-1, None]),
    (WorkerRow, "in_flight", [-1, None]),
    (WorkerRow, "sweeps", [-1, None]),
    (WorkerRow, "ttl", [-1, True]),
]
CASES = [
    pytest.param(record, name, value, id=f"{record.__name__}.{name}={short_repr(value)}")
    for record, name, values in WRONG
    for value in values
]


@pytest.mark.parametrize("record", VALID, ids=lambda record: record.__name__)
def test_required_fields_are_enough(record: type[Any]) -> None:
    """A record can be created from the fields that have no default."""
    assert record(**VALID[record])


@pytest.mark.parametrize(("record", "name", "value"), CASES)
def test_a_wrong_value_is_refused(record: type[Any], name: str, value: Any) -> None:
    """Creating the record raises a ValidationError that names the field."""
    with pytest.raises(ValidationError) as caught:
        record(**VALID[record] | {name: value})
    assert caught.value.field == name


def test_a_validation_error_is_short() -> None:
    """A long value is cut in the text."""
    with pytest.raises(ValidationError) as caught:
        AsyncRequest(action="echo", status="x" * 100_000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("progress", [0, 0.0, 0.5, 1, 1.0])
def test_progress_is_a_fraction(progress: float) -> None:
    """0 and 1 are included."""
    assert AsyncRequest(action="echo", progress=progress).progress == progress


def test_a_new_request_has_the_documented_defaults() -> None:
    """It is PENDING, with three retries and without an id."""
    request = AsyncRequest(action="echo")
    assert request.status is RequestStatus.PENDING
    assert request.max_retries == 3
    assert request.retry_count == 0
    assert request.request_id == ""


def test_max_retries_can_be_0() -> None:
    """0 is kept and not replaced by the default."""
    assert AsyncRequest(action="echo", max_retries=0).max_retries == 0


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"_metadata": None}, {}),
        ({"_metadata": "text"}, {}),
        ({"_metadata": {"trace": "1"}}, {"trace": "1"}),
    ],
)
def test_metadata_is_that_of_the_payload_or_empty(payload: Any, expected: Any) -> None:
    """`_metadata` that is not a mapping counts as empty."""
    assert AsyncRequest(action="echo", payload=payload).metadata == expected


def test_a_subscription_has_all_event_types_by_default() -> None:
    """The default is every event type."""
    assert Subscription(connection_id="c1", request_id="r1").event_types == set(EventType)


def test_the_id_of_a_subscription_joins_its_parts() -> None:
    """The key is unambiguous: a request id can contain `#`, a connection id cannot."""
    assert Subscription(connection_id="c1", request_id="r#1").subscription_id == "c1#r#1"


@pytest.mark.parametrize(
    ("status", "retry_after", "due"),
    [
        (RequestStatus.PENDING, None, True),
        (RequestStatus.PENDING, NOON + timedelta(hours=1), True),
        (RequestStatus.RETRYING, None, True),
        (RequestStatus.RETRYING, NOON - timedelta(microseconds=1), True),
        (RequestStatus.RETRYING, NOON, True),
        (RequestStatus.RETRYING, NOON + timedelta(microseconds=1), False),
    ],
)
def test_only_a_retrying_candidate_waits_for_retry_after(
    status: RequestStatus, retry_after: datetime | None, *, due: bool
) -> None:
    """A candidate is due unless it is RETRYING and its RetryAfter is in the future."""
    candidate = Candidate(request_id="r1", status=status, retry_after=retry_after)
    assert candidate.due(NOON) is due


def test_a_claim_numbers_its_writes() -> None:
    """Every write has a higher number than the one before."""
    claim = Claim(request=AsyncRequest(action="echo", request_id="r1"), version="v1")
    assert [claim.next_seq(), claim.next_seq()] == [1, 2]
    assert claim.request_id == "r1"


@pytest.mark.parametrize("record", VALID, ids=lambda record: record.__name__)
def test_records_are_frozen(record: type[Any]) -> None:
    """A field of a record cannot be assigned."""
    instance = record(**VALID[record])
    name = next(iter(VALID[record]))
    with pytest.raises(AttributeError):
        setattr(instance, name, "other")
