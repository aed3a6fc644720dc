"""Records as items, in the format shared with the Go store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamer_store import (
    AsyncRequest,
    Attempt,
    Connection,
    EventType,
    Priority,
    RequestStatus,
    Subscription,
    Undecodable,
    ValidationError,
    WorkerRow,
    codec,
)
from streamer_store.values import encode

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
CONNECTION = Connection(
    connection_id="c1",
    user_id="u1",
    tenant_id="t1",
    endpoint="https://x",
    connected_at=NOON,
    last_ping=NOON,
    metadata={"agent": "browser"},
    ttl=5,
)
REQUEST = AsyncRequest(
    action="echo",
    payload={"n": 1.5, "_metadata": {"trace": "1"}},
    request_id="r1",
    connection_id="c1",
    user_id="u1",
    tenant_id="t1",
    status=RequestStatus.PROCESSING,
    created_at=NOON,
    processing_started=NOON,
    processing_ended=NOON,
    result={"ok": True},
    error="no",
    error_code="BAD",
    progress=0.25,
    progress_message="quarter",
    progress_details={"rows": [1, 2]},
    retry_count=1,
    max_retries=2,
    retry_after=NOON,
    ttl=5,
    version="v1",
    worker_id="w1",
    write_seq=7,
    checkpoint=["page", 3],
    priority=Priority.HIGH,
    attempts=(
        Attempt(
            number=1,
            worker_id="w0",
            started=NOON,
            ended=NOON,
            outcome="retried",
            error_code="BAD",
            error_class="ValueError",
            error="no",
        ),
    ),
)
SUBSCRIPTION = Subscription(
    connection_id="c1",
    request_id="r1",
    event_types=frozenset({EventType.ERROR, EventType.COMPLETE}),
    created_at=NOON,
    ttl=5,
)
WORKER = WorkerRow(
    worker_id="w1",
    started_at=NOON,
    beat=3,
    seen_at=NOON,
    host="h",
    pid=9,
    release="1.0",
    actions=frozenset({"echo"}),
    concurrency=10,
    in_flight=2,
    draining=True,
    sweeps=4,
    lanes=True,
    pauses=True,
    cancel=frozenset({"v1"}),
    drain=True,
    ttl=5,
)
RECORDS: list[tuple[Any, Any, Any]] = [
    (CONNECTION, codec.connection_item, codec.connection),
    (REQUEST, codec.request_item, codec.request),
    (SUBSCRIPTION, codec.subscription_item, codec.subscription),
    (WORKER, codec.worker_item, codec.worker),
]
NAMES = {
    "connection": "ConnectionID UserID TenantID Endpoint ConnectedAt LastPing Metadata TTL",
    "request": (
        "RequestID ConnectionID Status CreatedAt Action Payload ProcessingStarted ProcessingEnded "
        "Result Error Progress ProgressMessage ProgressDetails RetryCount MaxRetries RetryAfter "
        "UserID TenantID TTL Version WorkerID WriteSeq ErrorCode Checkpoint Priority "
        "Attempts"
    ),
    "subscription": "SubscriptionID ConnectionID RequestID EventTypes CreatedAt TTL",
    "worker": (
        "WorkerID Beat StartedAt SeenAt Host PID Release Actions Concurrency InFlight Draining "
        "Sweeps Lanes Pauses TTL Cancel Drain"
    ),
}


def item(**attributes: Any) -> Any:
    """Return a minimal request item with some attributes changed, or removed (None)."""
    whole = {"RequestID": {"S": "r1"}, "Status": {"S": "PENDING"}, "Action": {"S": "echo"}}
    return {name: value for name, value in (whole | attributes).items() if value is not None}


@pytest.mark.parametrize(("record", "write", "read"), RECORDS, ids=list(NAMES))
def test_a_record_with_every_field_set_is_read_back(record: Any, write: Any, read: Any) -> None:
    """Converting a record to an item and back loses nothing."""
    assert read(write(record)) == record


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (write(record), names)
        for (record, write, _), names in zip(RECORDS, NAMES.values(), strict=True)
    ],
    ids=list(NAMES),
)
def test_attributes_have_exactly_the_shared_names(made: Any, names: str) -> None:
    """The Go store reads the same tables, so the names must not change."""
    assert set(made) == set(names.split())


def test_attributes_have_the_shared_types() -> None:
    """Times are text, counts are numbers, event types are a string set, and documents are maps."""
    written = codec.request_item(REQUEST)
    assert written["CreatedAt"] == {"S": "2026-03-14T12:00:00.000000Z"}
    assert written["Status"] == {"S": "PROCESSING"}
    assert written["Progress"] == {"N": "0.25"}
    assert written["TTL"] == {"N": "5"}
    assert written["Result"] == {"M": {"ok": {"BOOL": True}}}
    assert codec.subscription_item(SUBSCRIPTION)["EventTypes"] == {"SS": ["complete", "error"]}


def test_absent_values_are_not_written() -> None:
    """None, empty text and empty sets are not written, but zeros and empty maps are."""
    bare = codec.request_item(AsyncRequest(action="echo", request_id="r1", payload={}))
    assert set(bare) == {
        *("RequestID", "Status", "Action", "Payload", "Progress"),
        *("RetryCount", "MaxRetries", "WriteSeq"),
    }
    worker = codec.worker_item(WorkerRow(worker_id="w1", started_at=NOON))
    assert {"Cancel", "Actions", "Host", "SeenAt"}.isdisjoint(worker)


def test_a_payload_that_cannot_be_stored_is_refused_with_its_path() -> None:
    """The error names the field of the record, and the path inside it."""
    with pytest.raises(ValidationError) as caught:
        codec.request_item(AsyncRequest(action="echo", payload={"a": [object()]}))
    assert caught.value.field == "payload.a[0]"


def test_unknown_attributes_are_ignored() -> None:
    """Later releases and other programs may add attributes."""
    assert codec.request(item(Later={"S": "x"})) == codec.request(item())


def test_absent_attributes_have_defaults() -> None:
    """Go writes no Version, for example. An absent MaxRetries is 3."""
    read = codec.request(item())
    assert (read.payload, read.connection_id, read.version) == (None, None, None)
    assert read.max_retries == 3


def test_max_retries_of_zero_is_kept() -> None:
    """0 means no retries. It differs from absent."""
    assert codec.request(item(MaxRetries={"N": "0"})).max_retries == 0


@pytest.mark.parametrize("absent", [{"NULL": True}, {"S": ""}, {"S": "0001-01-01T00:00:00Z"}])
def test_null_empty_text_and_zero_time_are_no_time(absent: Any) -> None:
    """All three are read as an absent time."""
    assert codec.request(item(RetryAfter=absent)).retry_after is None


def test_a_decimal_is_read_as_a_float() -> None:
    """A progress with more digits than a float has can be read."""
    assert codec.request(item(Progress={"N": "0.33333333333333333333"})).progress == 1 / 3


def test_event_types_in_a_list_are_read() -> None:
    """Go may write a list of text instead of a set."""
    read = codec.subscription(
        {
            "SubscriptionID": {"S": "c1#r1"},
            "ConnectionID": {"S": "c1"},
            "RequestID": {"S": "r1"},
            "EventTypes": {"L": [{"S": "progress"}]},
        }
    )
    assert read.event_types == {EventType.PROGRESS}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Status": None}, "RequestID or Status is missing"),
        ({"Status": {"NULL": True}}, "RequestID or Status is missing"),
        ({"RequestID": None}, "RequestID or Status is missing"),
        ({"RequestID": {"S": ""}}, "RequestID or Status is missing"),
        ({"Action": None}, "Action is missing"),
        ({"Action": {"S": ""}}, "Action is missing"),
        ({"Status": {"S": "LOST"}}, "Status: 'LOST' is not a valid RequestStatus"),
        ({"Status": {"L": []}}, "Status: "),
        ({"Action": {"N": "5"}}, "Action: expected text, found int"),
        ({"Payload": {"S": "x"}}, "Payload: expected a map, found str"),
        ({"Progress": {"S": "x"}}, "Progress: expected a number, found str"),
        ({"Progress": {"BOOL": True}}, "Progress: expected a number, found bool"),
        ({"Progress": {"N": "50"}}, "progress: must be a finite fraction"),
        ({"Progress": {"N": "x"}}, "Progress: "),
        ({"RetryCount": {"N": "-1"}}, "RetryCount: expected a whole number"),
        ({"RetryCount": {"N": "1.5"}}, "RetryCount: expected a whole number"),
        ({"CreatedAt": {"S": "today"}}, "CreatedAt: not an RFC 3339 time"),
        ({"CreatedAt": {"N": "5"}}, "CreatedAt: expected text, found int"),
        ({"Result": {"X": 1}}, "Result: unknown attribute type"),
    ],
)
def test_a_wrong_attribute_is_undecodable(attributes: Any, reason: str) -> None:
    """The reason names the attribute and what was expected."""
    with pytest.raises(Undecodable) as caught:
        codec.request(item(**attributes))
    assert reason in caught.value.reason


def test_every_missing_attribute_is_named() -> None:
    """The reason has the attribute names of the table."""
    with pytest.raises(Undecodable) as caught:
        codec.connection({"ConnectionID": {"S": "c1"}, "UserID": {"S": "u1"}})
    assert caught.value.reason == "TenantID and Endpoint and ConnectedAt are missing"


def test_a_reason_is_short() -> None:
    """It is stored as the error and logged, although the value may be 400 KB."""
    with pytest.raises(Undecodable) as caught:
        codec.request(item(Status={"S": "x" * 100_000}))
    assert len(caught.value.reason) < 250


@pytest.mark.parametrize("checkpoint", ["", 0, 0.0, False, [], {}, b"", "page 3", [None]])
def test_any_checkpoint_is_read_back(checkpoint: Any) -> None:
    """Only None is read as no checkpoint."""
    record = AsyncRequest(action="echo", request_id="r1", checkpoint=checkpoint)
    assert codec.request(codec.request_item(record)) == record


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (codec.connection, "ConnectionID"),
        (codec.request, "RequestID"),
        (codec.subscription, "SubscriptionID"),
        (codec.worker, "WorkerID"),
        (codec.last_heard, "ConnectionID"),
    ],
)
def test_an_undecodable_error_has_the_key_of_the_item(read: Any, name: str) -> None:
    """With the key, an operator finds the item."""
    key = {name: {"S": "k1"}}
    for wrong in ({}, {"ConnectedAt": {"N": "5"}, "TTL": {"S": "x"}, "LastPing": {"N": "1"}}):
        with pytest.raises(Undecodable) as caught:
            read(key | wrong)
        assert caught.value.key == "k1"


@pytest.mark.parametrize("wrong", [{"S": "echo"}, {"N": "5"}, {"M": {}}])
def test_only_sets_and_lists_are_read_as_sets(wrong: Any) -> None:
    """A text is not read as the set of its letters."""
    row = {"WorkerID": {"S": "w1"}, "StartedAt": {"S": "2026-03-14T12:00:00Z"}}
    read = codec.worker(row | {"Actions": wrong})
    assert read.actions == frozenset()
    assert read.broken is not None
    assert read.broken.startswith("Actions: expected a set of text")


@pytest.mark.parametrize("wrong", [True, None, "yes"])
def test_a_flag_is_true_or_false(wrong: Any) -> None:
    """Null is read as absent, and other types are undecodable."""
    row: dict[str, Any] = {"WorkerID": {"S": "w1"}, "StartedAt": {"S": "2026-03-14T12:00:00Z"}}
    row["Drain"] = encode(wrong)
    read = codec.worker(row)
    assert read.drain is (wrong is True)
    refused = "Drain: expected true or false, found str"
    assert read.broken == (refused if isinstance(wrong, str) else None)
