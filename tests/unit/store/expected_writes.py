"""The writes of each change, and what they are expected to set, remove and require."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from streamer_store import (
    AsyncRequest,
    Candidate,
    Claim,
    Progress,
    RequestStatus,
    Rescued,
    operator_writes,
    writes,
)
from streamer_store.conditions import OneOf
from streamer_store.engine import Update
from streamer_store.times import epoch, format_time

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
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
LAST = replace(SEEN, retry_count=2)
AS_SEEN = (OneOf("Status", ({"S": "PROCESSING"},)), OneOf("Version", ({"S": "seen"},)))
RESCUES = {"Rescues", "Solo", "Alone"}
LANES = {"DueLane", "DueAt"}
EXPENDABLE = {"Attempts", "Checkpoint", "ProgressDetails", "ProgressMessage", "Result"}
DUE = {"DueLane": {"S": "due"}, "DueAt": STAMP}
# The attempt of HELD and SEEN.
ATTEMPT = {"Number": {"N": "2"}, "Ended": STAMP, "ErrorCode": {"S": "BAD"}, "Error": {"S": "no"}}
FAILURE = {"Error": {"S": "no"}, "ErrorCode": {"S": "BAD"}, "ProcessingEnded": STAMP}


def attempts(outcome: str, **more: Any) -> dict[str, Any]:
    return {"Attempts": {"L": [{"M": ATTEMPT | {"Outcome": {"S": outcome}} | more}]}}


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
    error_class: str | None = None,
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
        error_class=error_class,
        rescued=rescued,
    )


MOVES: dict[str, tuple[Update, str, dict[str, Any], set[str], tuple[Any, ...]]] = {
    "claim": (
        writes.claim(candidate(), worker_id="w1", version=FRESH, now=NOW),
        "PROCESSING",
        {"WorkerID": {"S": "w1"}, "WriteSeq": {"N": "0"}, "ProcessingStarted": STAMP, "TTL": WEEK},
        {"RetryAfter", "Error", "ErrorCode", "ProcessingEnded", "Result"} | LANES,
        (OneOf("Status", ({"S": "PENDING"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "claim by nobody": (
        writes.claim(candidate(), worker_id=None, version=FRESH, now=NOW),
        "PROCESSING",
        {"WriteSeq": {"N": "0"}, "ProcessingStarted": STAMP, "TTL": WEEK},
        {"RetryAfter", "Error", "ErrorCode", "ProcessingEnded", "Result", "WorkerID"} | LANES,
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
        {"RetryAfter", "Error", "ErrorCode", "ProcessingEnded", "Result"} | LANES,
        (OneOf("Status", ({"S": "PENDING"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "give up": (
        writes.give_up(
            candidate(RequestStatus.RETRYING), error="no", code="BAD", version=FRESH, now=NOW
        ),
        "FAILED",
        FAILURE | {"TTL": WEEK},
        {"RetryAfter"} | LANES,
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
        {*EXPENDABLE, "Payload", "RetryAfter"} | LANES,
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
        {"Checkpoint"} | LANES,
        FENCE,
    ),
    "complete with nothing": (
        writes.complete(HELD, result=None, version=FRESH, now=NOW),
        "COMPLETED",
        {"Progress": {"N": "1"}, "ProcessingEnded": STAMP, "TTL": WEEK},
        {"Checkpoint"} | LANES,
        FENCE,
    ),
    "fail": (
        writes.fail(HELD, error="no", code="BAD", version=FRESH, now=NOW, error_class="ValueError"),
        "FAILED",
        FAILURE | {"TTL": WEEK, **attempts("failed", ErrorClass={"S": "ValueError"})},
        LANES,
        FENCE,
    ),
    "fail what never ran": (
        writes.fail(HELD, error="no", code="BAD", version=FRESH, now=NOW, ran=False),
        "FAILED",
        FAILURE | {"TTL": WEEK},
        LANES,
        FENCE,
    ),
    "fail without room": (
        writes.fail(
            HELD, error="no", code="BAD", version=FRESH, now=NOW, drop=writes.ERROR_SPACE_STEPS[1]
        ),
        "FAILED",
        FAILURE | {"TTL": WEEK},
        EXPENDABLE | LANES,
        FENCE,
    ),
    "retry": (
        retry(error_class="ValueError"),
        "RETRYING",
        FAILURE
        | {"RetryCount": {"N": "2"}, "RetryAfter": STAMP, **DUE, "TTL": WEEK}
        | attempts("retried", ErrorClass={"S": "ValueError"}),
        {"WorkerID", *RESCUES},
        FENCE,
    ),
    "snooze": (
        retry(counts=False, error=None),
        "RETRYING",
        {
            "RetryCount": {"N": "1"},
            "RetryAfter": STAMP,
            **DUE,
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
        {"WorkerID", "ProcessingStarted"} | LANES,
        FENCE,
    ),
    "rescue": (
        writes.rescue(RUNNING, SEEN, error="no", code="BAD", version=FRESH, now=NOW),
        "RETRYING",
        FAILURE
        | {"RetryCount": {"N": "2"}, "RetryAfter": STAMP, **DUE, "TTL": WEEK}
        | attempts("rescued"),
        {"WorkerID", *RESCUES},
        AS_SEEN,
    ),
    "rescue past the last attempt": (
        writes.rescue(RUNNING, LAST, error="no", code="BAD", version=FRESH, now=NOW),
        "FAILED",
        FAILURE | {"TTL": WEEK, **attempts("failed", Number={"N": "3"})},
        LANES,
        AS_SEEN,
    ),
    "retry after the loss of its worker": (
        retry(counts=False, rescued=Rescued(rescues=3, solo=1, after=timedelta())),
        "RETRYING",
        FAILURE
        | {
            "RetryCount": {"N": "1"},
            "RetryAfter": STAMP,
            **DUE,
            "TTL": WEEK,
            "Rescues": {"N": "3"},
            "Solo": {"N": "1"},
        }
        | attempts("rescued"),
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
        FAILURE
        | {"RetryAfter": STAMP, **DUE, "TTL": WEEK, "Rescues": {"N": "3"}, "Solo": {"N": "1"}}
        | attempts("rescued"),
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
        FAILURE | {"TTL": WEEK, "Rescues": {"N": "6"}, "Solo": {"N": "4"}} | attempts("failed"),
        LANES,
        AS_SEEN,
    ),
    "cancel": (
        operator_writes.cancel(item("PROCESSING"), version=FRESH, message="stop", now=NOW),
        "CANCELLED",
        {"ProgressMessage": {"S": "stop"}, "ProcessingEnded": STAMP, "TTL": WEEK},
        {"RetryAfter"} | LANES,
        AS_SEEN,
    ),
    "cancel in silence": (
        operator_writes.cancel(item("PROCESSING"), version=FRESH, message=None, now=NOW),
        "CANCELLED",
        {"ProcessingEnded": STAMP, "TTL": WEEK},
        {"RetryAfter"} | LANES,
        AS_SEEN,
    ),
    "redrive": (
        operator_writes.redrive(item("FAILED"), version=FRESH, message="again", now=NOW),
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
        }
        | LANES,
        (OneOf("Status", ({"S": "FAILED"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "reschedule": (
        operator_writes.reschedule(item("PENDING"), version=FRESH, run_at=NOW + HOUR, now=NOW),
        "SCHEDULED",
        {
            "RetryAfter": {"S": format_time(NOW + HOUR)},
            "DueLane": {"S": "due"},
            "DueAt": {"S": format_time(NOW + HOUR)},
            "TTL": {"N": str(epoch(NOW + HOUR) + 7 * 86_400)},
        },
        {"WorkerID"},
        (OneOf("Status", ({"S": "PENDING"},)), OneOf("Version", ({"S": "seen"},))),
    ),
    "redrive in silence": (
        operator_writes.redrive(item("FAILED"), version=FRESH, message=None, now=NOW),
        "PENDING",
        {"RetryCount": {"N": "0"}, "Progress": {"N": "0"}, "TTL": WEEK},
        {
            *("WorkerID", "RetryAfter", "Error", "ErrorCode", "Result", "ProgressMessage"),
            *("ProcessingStarted", "ProcessingEnded", "ProgressDetails", *RESCUES),
        }
        | LANES,
        (OneOf("Status", ({"S": "FAILED"},)), OneOf("Version", ({"S": "seen"},))),
    ),
}
UPDATES = {name: move[0] for name, move in MOVES.items()} | {
    "progress": writes.progress(HELD, seq=4, progress=Progress(0.5, "half", {"n": 1}))
}
