"""The conditional write of each change: what it sets, removes and requires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamer_store import (
    AsyncRequest,
    Candidate,
    Claim,
    Progress,
    RequestStatus,
    Rescued,
    writes,
)
from streamer_store.engine import OneOf, Update
from streamer_store.schema import REQUESTS
from streamer_store.times import epoch, format_time
from streamer_store.transitions import FOLLOWS

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
STAMP = {"S": format_time(NOW)}
WEEK = {"N": str(epoch(NOW) + 7 * 86_400)}
FRESH = "fresh"
HELD = Claim(request=AsyncRequest(action="echo", request_id="r1", retry_count=1), version="mine")
FENCE = (OneOf("Status", ({"S": "PROCESSING"},)), OneOf("Version", ({"S": "mine"},)))
SEEN = AsyncRequest(
    action="echo",
    request_id="r1",
    status=RequestStatus.PROCESSING,
    version="seen",
    retry_count=1,
    max_retries=2,
)
LAST = AsyncRequest(
    action="echo",
    request_id="r1",
    status=RequestStatus.PROCESSING,
    version="seen",
    retry_count=2,
    max_retries=2,
)
AS_SEEN = (OneOf("Status", ({"S": "PROCESSING"},)), OneOf("Version", ({"S": "seen"},)))
RESCUES = {"Rescues", "Solo", "Alone"}
FAILURE = {"Error": {"S": "no"}, "ErrorCode": {"S": "BAD"}, "ProcessingEnded": STAMP}


def candidate(status: RequestStatus = RequestStatus.PENDING, version: Any = "seen") -> Candidate:
    seen = {"S": version} if isinstance(version, str) else version
    return Candidate(request_id="r1", status=status, seen_version=seen)


RUNNING = candidate(RequestStatus.PROCESSING)


def item(status: str, version: str | None = "seen") -> Any:
    item: dict[str, Any] = {"RequestID": {"S": "r1"}, "Status": {"S": status}}
    return item if version is None else item | {"Version": {"S": version}}


def retry(
    after: float = 0,
    *,
    counts: bool = True,
    error: str | None = "no",
    rescued: Rescued | None = None,
) -> Update:
    return writes.retry(
        HELD,
        after=timedelta(seconds=after),
        error=error,
        code=None if error is None else "BAD",
        counts=counts,
        version=FRESH,
        now=NOW,
        rescued=rescued,
    )


MOVES: dict[str, tuple[Update, str, dict[str, Any], set[str], tuple[Any, ...]]] = {
    "claim": (
        writes.claim(candidate(), worker_id="w1", version=FRESH, now=NOW),
        "PROCESSING",
        {"WorkerID": {"S": "w1"}, "WriteSeq": {"N": "0"}, "ProcessingStarted": STAMP, "TTL": WEEK},
        {"RetryAfter", "Error", "ErrorCode", "ProcessingEnded", "Result"},
        (OneOf("Status", ({"S": "PENDING"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "claim by nobody": (
        writes.claim(candidate(), worker_id=None, version=FRESH, now=NOW),
        "PROCESSING",
        {"WriteSeq": {"N": "0"}, "ProcessingStarted": STAMP, "TTL": WEEK},
        {"RetryAfter", "Error", "ErrorCode", "ProcessingEnded", "Result", "WorkerID"},
        (OneOf("Status", ({"S": "PENDING"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "claim into probation": (
        writes.claim(candidate(), worker_id="w1", version=FRESH, now=NOW, alone=True),
        "PROCESSING",
        {
            "WorkerID": {"S": "w1"},
            "WriteSeq": {"N": "0"},
            "ProcessingStarted": STAMP,
            "TTL": WEEK,
            "Alone": {"S": FRESH},
        },
        {"RetryAfter", "Error", "ErrorCode", "ProcessingEnded", "Result"},
        (OneOf("Status", ({"S": "PENDING"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "give up": (
        writes.give_up(
            candidate(RequestStatus.RETRYING), error="no", code="BAD", version=FRESH, now=NOW
        ),
        "FAILED",
        FAILURE | {"TTL": WEEK},
        {"RetryAfter"},
        (OneOf("Status", ({"S": "RETRYING"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "give up without room": (
        writes.give_up(
            candidate(RequestStatus.PROCESSING),
            error="no",
            code="BAD",
            version=FRESH,
            now=NOW,
            drop=writes.ERROR_SPACE_STEPS[-1],
        ),
        "FAILED",
        FAILURE | {"TTL": WEEK},
        {"Checkpoint", "ProgressDetails", "ProgressMessage", "Result", "Payload", "RetryAfter"},
        AS_SEEN,
    ),
    "complete": (
        writes.complete(HELD, result={"ok": True}, version=FRESH, now=NOW),
        "COMPLETED",
        {
            "Result": {"M": {"ok": {"BOOL": True}}},
            "Progress": {"N": "1"},
            "ProcessingEnded": STAMP,
            "TTL": WEEK,
        },
        {"Checkpoint"},
        FENCE,
    ),
    "complete with nothing": (
        writes.complete(HELD, result=None, version=FRESH, now=NOW),
        "COMPLETED",
        {"Progress": {"N": "1"}, "ProcessingEnded": STAMP, "TTL": WEEK},
        {"Checkpoint"},
        FENCE,
    ),
    "fail": (
        writes.fail(HELD, error="no", code="BAD", version=FRESH, now=NOW),
        "FAILED",
        FAILURE | {"TTL": WEEK},
        set(),
        FENCE,
    ),
    "fail without room": (
        writes.fail(
            HELD, error="no", code="BAD", version=FRESH, now=NOW, drop=writes.ERROR_SPACE_STEPS[1]
        ),
        "FAILED",
        FAILURE | {"TTL": WEEK},
        {"Checkpoint", "ProgressDetails", "ProgressMessage", "Result"},
        FENCE,
    ),
    "retry": (
        retry(),
        "RETRYING",
        FAILURE | {"RetryCount": {"N": "2"}, "RetryAfter": STAMP, "TTL": WEEK},
        {"WorkerID", *RESCUES},
        FENCE,
    ),
    "snooze": (
        retry(counts=False, error=None),
        "RETRYING",
        {
            "RetryCount": {"N": "1"},
            "RetryAfter": STAMP,
            "ProcessingEnded": STAMP,
            "TTL": WEEK,
        },
        {"WorkerID"},
        FENCE,
    ),
    "release": (
        writes.release(HELD, version=FRESH, now=NOW),
        "PENDING",
        {"TTL": WEEK},
        {"WorkerID", "ProcessingStarted"},
        FENCE,
    ),
    "rescue": (
        writes.rescue(RUNNING, SEEN, error="no", code="BAD", version=FRESH, now=NOW),
        "RETRYING",
        FAILURE | {"RetryCount": {"N": "2"}, "RetryAfter": STAMP, "TTL": WEEK},
        {"WorkerID", *RESCUES},
        AS_SEEN,
    ),
    "rescue past the last attempt": (
        writes.rescue(RUNNING, LAST, error="no", code="BAD", version=FRESH, now=NOW),
        "FAILED",
        FAILURE | {"TTL": WEEK},
        set(),
        AS_SEEN,
    ),
    "retry after the loss of its worker": (
        retry(counts=False, rescued=Rescued(rescues=3, solo=1, after=timedelta())),
        "RETRYING",
        FAILURE
        | {
            "RetryCount": {"N": "1"},
            "RetryAfter": STAMP,
            "TTL": WEEK,
            "Rescues": {"N": "3"},
            "Solo": {"N": "1"},
        },
        {"WorkerID"},
        FENCE,
    ),
    "rescue from a lost worker": (
        writes.rescue(
            RUNNING,
            SEEN,
            error="no",
            code="BAD",
            version=FRESH,
            now=NOW,
            rescued=Rescued(rescues=3, solo=1, after=timedelta()),
        ),
        "RETRYING",
        FAILURE | {"RetryAfter": STAMP, "TTL": WEEK, "Rescues": {"N": "3"}, "Solo": {"N": "1"}},
        {"WorkerID"},
        AS_SEEN,
    ),
    "rescue that ends a request": (
        writes.rescue(
            RUNNING,
            SEEN,
            error="no",
            code="BAD",
            version=FRESH,
            now=NOW,
            rescued=Rescued(rescues=6, solo=4, after=None),
        ),
        "FAILED",
        FAILURE | {"TTL": WEEK, "Rescues": {"N": "6"}, "Solo": {"N": "4"}},
        set(),
        AS_SEEN,
    ),
    "cancel": (
        writes.cancel(item("PROCESSING"), version=FRESH, message="stop", now=NOW),
        "CANCELLED",
        {"ProgressMessage": {"S": "stop"}, "ProcessingEnded": STAMP, "TTL": WEEK},
        {"RetryAfter"},
        AS_SEEN,
    ),
    "cancel in silence": (
        writes.cancel(item("PROCESSING"), version=FRESH, message=None, now=NOW),
        "CANCELLED",
        {"ProcessingEnded": STAMP, "TTL": WEEK},
        {"RetryAfter"},
        AS_SEEN,
    ),
    "redrive": (
        writes.redrive(item("FAILED"), version=FRESH, message="again", now=NOW),
        "PENDING",
        {
            "ProgressMessage": {"S": "again"},
            "RetryCount": {"N": "0"},
            "Progress": {"N": "0"},
            "TTL": WEEK,
        },
        {
            *("WorkerID", "RetryAfter", "Error", "ErrorCode", "Result"),
            *("ProcessingStarted", "ProcessingEnded", "ProgressDetails", *RESCUES),
        },
        (OneOf("Status", ({"S": "FAILED"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "redrive in silence": (
        writes.redrive(item("FAILED"), version=FRESH, message=None, now=NOW),
        "PENDING",
        {"RetryCount": {"N": "0"}, "Progress": {"N": "0"}, "TTL": WEEK},
        {
            *("WorkerID", "RetryAfter", "Error", "ErrorCode", "Result", "ProgressMessage"),
            *("ProcessingStarted", "ProcessingEnded", "ProgressDetails", *RESCUES),
        },
        (OneOf("Status", ({"S": "FAILED"},)), OneOf("Version", ({"S": "seen"},))),
    ),
}
UPDATES = {name: move[0] for name, move in MOVES.items()} | {
    "progress": writes.progress(HELD, seq=4, progress=Progress(0.5, "half", {"n": 1}))
}


@pytest.mark.parametrize(
    ("update", "status", "sets", "removes", "conditions"), MOVES.values(), ids=MOVES
)
def test_each_change_is_exactly_this_write(
    update: Update, status: str, sets: Any, removes: set[str], conditions: Any
) -> None:
    """It sets Status, a new Version and these attributes only, under these conditions.

    Proves VERSION-1, FENCE-1 and RESCUE-3.
    """
    assert update.sets == {"Status": {"S": status}, "Version": {"S": FRESH}} | sets
    assert set(update.removes) == removes
    assert update.conditions == conditions


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_no_write_removes_the_version(update: Update) -> None:
    """Without a Version the next claim could not be distinguished from this one.

    Proves VERSION-1.
    """
    assert "Version" not in update.removes


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_an_attribute_is_in_one_part_of_a_write(update: Update) -> None:
    """DynamoDB refuses an update with overlapping paths."""
    assert set(update.sets).isdisjoint(update.removes)
    assert len(set(update.removes)) == len(update.removes)


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_every_write_has_the_key_of_its_request(update: Update) -> None:
    """The key is that of the request, and no write changes it."""
    assert (update.table, update.key) == (REQUESTS, "r1")
    assert "RequestID" not in {*update.sets, *update.removes}


@pytest.mark.parametrize("name", UPDATES)
def test_only_some_writes_return_the_item(name: str) -> None:
    """Claims, cancellations and redrives return it. For the others it would only cost."""
    assert UPDATES[name].returning == name.startswith(("claim", "cancel", "redrive"))


@pytest.mark.parametrize("name", MOVES)
def test_every_change_of_status_is_allowed(name: str) -> None:
    """The status that is required and the one that is set are a pair of FOLLOWS."""
    update = MOVES[name][0]
    required = next(condition for condition in update.conditions if condition.name == "Status")
    assert isinstance(required, OneOf)
    for value in required.values:
        assert RequestStatus(update.sets["Status"]["S"]) in FOLLOWS[RequestStatus(value["S"])]


@pytest.mark.parametrize("name", MOVES)
def test_waiting_requests_have_no_worker_and_ended_ones_keep_it(name: str) -> None:
    """PENDING and RETRYING remove WorkerID. Terminal statuses keep it."""
    update = MOVES[name][0]
    status = update.sets["Status"]["S"]
    if status != "PROCESSING":
        assert ("WorkerID" in update.removes) == (status in {"PENDING", "RETRYING"})
        assert "WorkerID" not in update.sets
