"""What single writes do beyond their table: progress, Versions and limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from streamer_store import (
    AsyncRequest,
    Candidate,
    Progress,
    RequestStatus,
    Rescued,
    ValidationError,
    operator_writes,
    writes,
)
from streamer_store.conditions import Absent, Below, OneOf
from streamer_store.engine import Put, Update
from streamer_store.schema import REQUESTS
from streamer_store.times import epoch, format_time
from unit.store.expected_writes import FENCE, HELD, NOW


def progress(**fields: Any) -> Update:
    return writes.progress(HELD, seq=4, progress=Progress(**fields))


def failures(*, error: str, drop: tuple[str, ...]) -> list[Update]:
    """Return the two writes that fail a request: by the holder, and without a claim."""
    seen = Candidate(request_id="r1", status=RequestStatus.PENDING)
    return [
        writes.fail(HELD, error=error, code="BAD", version="fresh", now=NOW, drop=drop),
        writes.give_up(seen, error=error, code="BAD", version="fresh", now=NOW, drop=drop),
    ]


def test_a_new_request_is_put_only_if_its_id_is_free() -> None:
    """Enqueueing never overwrites."""
    item = {"RequestID": {"S": "r1"}}
    expected = Put(table=REQUESTS, item=item, conditions=(Absent("RequestID"),))
    assert writes.enqueue(item) == expected


@pytest.mark.parametrize(
    ("fields", "sets"),
    [
        ({}, {}),
        ({"fraction": 0.5}, {"Progress": {"N": "0.5"}}),
        ({"fraction": 0.0}, {"Progress": {"N": "0"}}),
        ({"message": "half"}, {"ProgressMessage": {"S": "half"}}),
        ({"message": ""}, {"ProgressMessage": {"S": ""}}),
        ({"details": {"n": 1}}, {"ProgressDetails": {"M": {"n": {"N": "1"}}}}),
        ({"details": {}}, {"ProgressDetails": {"M": {}}}),
    ],
)
def test_progress_writes_what_is_given_and_nothing_else(fields: Any, sets: Any) -> None:
    """None keeps the stored value. 0 and empty are values. No index attribute is written."""
    update = progress(**fields)
    assert update.sets == {"WriteSeq": {"N": "4"}} | sets
    assert update.removes == ()


def test_progress_is_fenced_and_numbered() -> None:
    """The write requires the Version of the claim and a smaller WriteSeq.

    Proves FENCE-1 and FENCE-2.
    """
    assert progress().conditions == (*FENCE, Below("WriteSeq", {"N": "4"}))


@pytest.mark.parametrize("seen", [{"S": "seen"}, {"N": "1"}, {"NULL": True}])
def test_a_claim_requires_the_version_seen(seen: Any) -> None:
    """The Version can have any type in the index. Proves CLAIM-1."""
    candidate = Candidate(request_id="r1", status=RequestStatus.PENDING, seen_version=seen)
    update = writes.claim(candidate, worker_id="w1", version="fresh", now=NOW)
    assert update.conditions[1] == OneOf("Version", (seen,))


@pytest.mark.parametrize(
    "update",
    [
        writes.claim(
            Candidate(request_id="r1", status=RequestStatus.PENDING),
            worker_id="w1",
            version="fresh",
            now=NOW,
        ),
        writes.give_up(
            Candidate(request_id="r1", status=RequestStatus.PENDING),
            error="no",
            code="BAD",
            version="fresh",
            now=NOW,
        ),
        writes.rescue(
            Candidate(request_id="r1", status=RequestStatus.PROCESSING),
            AsyncRequest(action="echo", request_id="r1", status=RequestStatus.PROCESSING),
            error="no",
            code="BAD",
            version="fresh",
            now=NOW,
        ),
        operator_writes.cancel(
            {"RequestID": {"S": "r1"}, "Status": {"S": "PENDING"}},
            version="fresh",
            message=None,
            now=NOW,
        ),
        operator_writes.redrive(
            {"RequestID": {"S": "r1"}, "Status": {"S": "FAILED"}},
            version="fresh",
            message=None,
            now=NOW,
        ),
    ],
    ids=["claim", "give_up", "rescue", "cancel", "redrive"],
)
def test_a_request_by_go_is_changed_only_if_it_has_no_version(update: Update) -> None:
    """The first write sets a Version, and a second one then fails."""
    assert update.conditions[1] == Absent("Version")


def test_the_ttl_of_a_retry_is_a_week_after_retry_after() -> None:
    """The item must not be deleted before the request runs again."""
    after = timedelta(days=30)
    update = writes.retry(
        HELD, after=after, error="no", code="BAD", counts=True, version="fresh", now=NOW
    )
    assert update.sets["RetryAfter"] == {"S": format_time(NOW + after)}
    assert update.sets["TTL"] == {"N": str(epoch(NOW + after) + 7 * 86_400)}


@pytest.mark.parametrize(
    ("retries", "limit", "status"),
    [(0, 0, "FAILED"), (0, 1, "RETRYING"), (1, 1, "FAILED"), (2, 3, "RETRYING"), (5, 3, "FAILED")],
)
def test_a_rescue_counts_as_an_attempt(retries: int, limit: int, status: str) -> None:
    """The request runs again while it has retries left."""
    seen = Candidate(request_id="r1", status=RequestStatus.PROCESSING)
    request = AsyncRequest(
        action="echo",
        request_id="r1",
        status=RequestStatus.PROCESSING,
        retry_count=retries,
        max_retries=limit,
    )
    update = writes.rescue(seen, request, error="no", code="BAD", version="fresh", now=NOW)
    assert update.sets["Status"] == {"S": status}


def test_a_failure_keeps_its_whole_text_while_there_is_room() -> None:
    """Without `drop`, no text is cut and the payload is kept."""
    for update in failures(error="x" * 10_000, drop=()):
        assert update.sets["Error"] == {"S": "x" * 10_000}
        assert "Payload" not in update.removes


@pytest.mark.parametrize(
    "drop",
    [
        ("Attempts", "Checkpoint", "ProgressDetails", "ProgressMessage", "Result"),
        ("Attempts", "Checkpoint", "ProgressDetails", "ProgressMessage", "Result", "Payload"),
    ],
)
def test_a_failure_without_room_removes_attributes_and_cuts_its_text(
    drop: tuple[str, ...],
) -> None:
    """The error text is cut to 256 characters, and the attributes of the step are removed."""
    for update in failures(error="x" * 10_000, drop=drop):
        assert update.sets["Error"] == {"S": "x" * 256}
        assert set(drop) <= set(update.removes)


@pytest.mark.parametrize(
    ("write", "field"),
    [
        (lambda: progress(message="\ud800"), "message"),
        (lambda: progress(message=5), "message"),
        (lambda: progress(fraction=float("nan")), "progress"),
        (lambda: progress(details={"a": object()}), "details.a"),
        (lambda: progress(details=["a"]), "details"),
        (
            lambda: writes.complete(HELD, result={"a": {1}, "b": set()}, version="v", now=NOW),
            "result.b",
        ),
        (
            lambda: writes.fail(HELD, error="\ud800", code="BAD", version="v", now=NOW),
            "error",
        ),
        (
            lambda: writes.fail(HELD, error="no", code="\ud800", version="v", now=NOW),
            "code",
        ),
        (
            lambda: writes.fail(
                HELD, error=cast("Any", KeyError("a")), code="B", version="v", now=NOW
            ),
            "error",
        ),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused(write: Any, field: str) -> None:
    """The error names the argument, not the attribute."""
    with pytest.raises(ValidationError) as caught:
        write()
    assert caught.value.field == field


@pytest.mark.parametrize(
    "update",
    [
        writes.complete(
            HELD,
            result=None,
            version="fresh",
            now=NOW,
            progress=Progress(message="almost", details={"n": 1}),
            drop=writes.DROPPED_FOR_RESULT,
        ),
        writes.fail(
            HELD,
            error="no",
            code="BAD",
            version="fresh",
            now=NOW,
            progress=Progress(message="almost", details={"n": 1}),
            drop=writes.ERROR_SPACE_STEPS[1],
        ),
    ],
    ids=["complete", "fail"],
)
def test_a_write_that_makes_room_leaves_out_progress(update: Update) -> None:
    """DynamoDB refuses an update that sets and removes the same attribute."""
    assert not {"ProgressMessage", "ProgressDetails"} & update.sets.keys()
    assert {"ProgressMessage", "ProgressDetails"} <= {*update.removes}


def test_an_empty_result_is_a_result() -> None:
    """None stores nothing. An empty mapping is stored."""
    absent = writes.complete(HELD, result=None, version="fresh", now=NOW)
    empty = writes.complete(HELD, result={}, version="fresh", now=NOW)
    assert "Result" not in absent.sets
    assert empty.sets["Result"] == {"M": {}}


def test_the_ttl_of_a_rescue_is_a_week_after_retry_after() -> None:
    """The item must not disappear while it waits."""
    update = writes.rescue(
        Candidate(request_id="r1", status=RequestStatus.PROCESSING),
        AsyncRequest(action="echo", request_id="r1", status=RequestStatus.PROCESSING),
        error="no",
        code="BAD",
        version="fresh",
        now=NOW,
        rescued=Rescued(rescues=1, solo=0, after=timedelta(minutes=15)),
    )
    assert update.sets["TTL"] == {"N": str(epoch(NOW + timedelta(days=7, minutes=15)))}


@pytest.mark.parametrize("change", [operator_writes.cancel, operator_writes.redrive])
def test_an_empty_message_of_an_operator_is_stored(change: Any) -> None:
    """Only None means that there is no message."""
    seen = {"RequestID": {"S": "r1"}, "Status": {"S": "FAILED"}}
    update = change(seen, version="fresh", message="", now=NOW)
    assert update.sets["ProgressMessage"] == {"S": ""}
    assert "ProgressMessage" not in update.removes
