"""Durations, the sections of `show`, and the warning about workers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import AsyncRequest, Attempt, Priority, RequestStatus, WorkerRow
from streamer_worker import Reject
from streamer_worker.cli.formatting import duration_text, in_one_unit
from streamer_worker.cli.live_workers import handler_warning
from streamer_worker.cli.request_sections import document_fields, identity_fields, state_fields
from support import START, ManualClock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0ms"),
        (0.1234, "123ms"),
        (1.25, "1.25s"),
        (9.999, "10s"),
        (59.7, "1m"),
        (303, "5m 3s"),
        (3_600, "1h"),
        (3_601, "1h"),
        (7_500, "2h 5m"),
        (187_200, "2d 4h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    """A unit that is 0 is left out."""
    assert duration_text(seconds) == text


def test_a_duration_in_one_unit() -> None:
    """As tables show ages."""
    assert [in_one_unit(each) for each in (-1, 90, 119, 300, 86_400 * 3)] == [
        "0s",
        "90s",
        "119s",
        "5m",
        "3d",
    ]


def request(status: str, **fields: Any) -> AsyncRequest:
    return AsyncRequest(
        action="a",
        request_id="r1",
        status=RequestStatus(status),
        **({"created_at": START - timedelta(hours=2)} | fields),
    )


def state(status: str, **fields: Any) -> dict[str, str]:
    shown = state_fields(request(status, **fields), START)
    return {name: cell if isinstance(cell, str) else cell[0] for name, cell in shown}


def test_a_failed_request_begins_with_its_cause() -> None:
    """Then come the times in words, with dates instead of epochs."""
    shown = state(
        "FAILED",
        error="card 1 was declined",
        error_code="DECLINED",
        processing_started=START - timedelta(hours=1),
        processing_ended=START - timedelta(hours=1, seconds=-2.25),
        ttl=int((START + timedelta(days=6, hours=3, seconds=9)).timestamp()),
        write_seq=7,
        version="v",
    )
    assert list(shown) == ["status", "error", "created", "waited", "ran", "ended", "expires"]
    assert shown["error"] == "DECLINED: card 1 was declined"
    assert shown["created"] == "2h ago, 2066-03-14 13:09:26 UTC"
    assert (shown["waited"], shown["ran"]) == ("1h", "2.25s")
    assert shown["ended"] == "59m 58s ago, 2066-03-14 14:09:28 UTC"
    assert shown["expires"] == "in 6d 3h, 2066-03-20 18:09:35 UTC"


def test_the_cause_has_the_class_of_the_exception() -> None:
    """That is in the last attempt, unless the error is another one. Reject adds nothing."""
    late = Attempt(number=1, ended=START, outcome="failed", error_code="LATE", error_class="Slow")
    failed = {"error": "after 3s", "attempts": (late,)}
    assert state("FAILED", error_code="LATE", **failed)["error"] == "LATE: Slow: after 3s"
    rejected = {"error": "no", "attempts": (replace(late, error_class=Reject.__name__),)}
    assert state("FAILED", error_code="LATE", **rejected)["error"] == "LATE: no"
    assert state("FAILED", error_code="CANCELLED", **failed)["error"] == "CANCELLED: after 3s"
    assert "error" not in state("PENDING", attempts=(late,))


@pytest.mark.parametrize(
    "before",
    [
        {"retry_count": 1},
        {"rescues": 1},
        {"attempts": (Attempt(number=1, ended=START, outcome="failed"),)},
    ],
)
def test_waited_means_the_wait_before_the_first_attempt(before: dict[str, Any]) -> None:
    """A request that ran before has none: its last start says nothing about the wait."""
    ran = {"processing_started": START, "processing_ended": START}
    assert state("COMPLETED", **ran)["waited"] == "2h"
    assert "waited" not in state("COMPLETED", **ran, **before)


def test_a_retrying_request_is_due() -> None:
    """With the retries that are used. `waited` would mean the wait before the first attempt."""
    shown = state(
        "RETRYING",
        error="away",
        retry_count=1,
        rescues=2,
        retry_after=START + timedelta(minutes=5),
        processing_started=START - timedelta(minutes=1),
        processing_ended=START - timedelta(seconds=50),
    )
    assert shown["error"] == "away"
    assert shown["retries"] == "1 of 3 used"
    assert shown["lost"] == "2 workers died or lost contact while running it"
    assert shown["due"] == "in 5m, 2066-03-14 15:14:26 UTC"
    assert shown["ran"] == "10s in its last attempt"
    assert "waited" not in shown
    assert state("SCHEDULED")["due"] == "now"


def test_a_running_request_runs_for_a_time() -> None:
    """With its progress."""
    shown = state(
        "PROCESSING",
        progress=0.25,
        progress_message="step 1",
        processing_started=START - timedelta(seconds=90),
    )
    assert shown["progress"] == "25% step 1"
    assert shown["runs for"] == "1m 30s, since 2066-03-14 15:07:56 UTC"
    assert shown["waited"] == "1h 58m"


def test_clocks_that_differ_and_absurd_ttls_are_no_error() -> None:
    """A producer's clock may be ahead, and a TTL beyond the year 9999."""
    shown = state("PENDING", created_at=START + timedelta(minutes=3), ttl=2**52)
    assert shown["created"].startswith("in 3m by this clock")
    assert shown["expires"] == f"after {2**52} seconds since 1970"
    assert state("COMPLETED", ttl=5)["expires"].endswith("DynamoDB deletes it within days")
    assert "created" not in state("PENDING", created_at=None)


def test_the_identity_has_the_whole_id() -> None:
    """What is not set is left out."""
    shown = dict(identity_fields(request("PENDING", priority=Priority.HIGH, user_id="u1")))
    assert shown == {"request": "r1", "action": "a", "priority": "high", "user": "u1"}


def test_values_are_last_and_cut() -> None:
    """The size is that of the whole JSON."""
    big = request("COMPLETED", payload={"n": "é" * 2_000}, result={"answer": 42})
    (payload, text), result = document_fields(big, full=False)
    assert payload == "payload"
    assert result == ("result", '{"answer": 42}')
    assert str(text).startswith('{"n": "éé')
    assert str(text).endswith("… (4,009 bytes; --full or --json)")
    assert len(str(text)) < 700
    assert dict(document_fields(big, full=True))["payload"] == '{"n": "' + "é" * 2_000 + '"}'


ROW = WorkerRow(
    worker_id="w1",
    started_at=START,
    seen_at=START,
    actions=frozenset({"echo", "greet"}),
    concurrency=4,
)


def warning(action: str, *rows: WorkerRow, later: float = 0.0) -> str:
    clock = ManualClock()
    now = clock.now() + timedelta(seconds=later)
    return handler_warning(rows, action, now, lease=16) or ""


def test_there_is_no_warning_while_a_live_worker_handles_the_action() -> None:
    """One of several is enough. A worker whose clock is ahead is alive."""
    other = replace(ROW, worker_id="w2", actions=frozenset())
    assert warning("echo", other, ROW) == ""
    assert warning("echo", replace(ROW, seen_at=START + timedelta(hours=1))) == ""


def test_no_worker_is_alive() -> None:
    """A worker that drains, or has not been seen for two leases, does not count."""
    text = "no worker is alive. The request waits until one starts"
    assert warning("echo") == text
    assert warning("echo", ROW, later=31) == ""
    assert warning("echo", ROW, later=33) == text
    for gone in ({"draining": True}, {"drain": True}, {"seen_at": None}):
        assert warning("echo", replace(ROW, **gone)) == text


def test_no_live_worker_handles_the_action() -> None:
    """The nearest action, or those that there are."""
    assert "handles the action 'ecko' (did you mean 'echo'?)" in warning("ecko", ROW)
    assert "(they handle echo, greet)" in warning("pay", ROW)
    assert "(they handle no action)" in warning("pay", replace(ROW, actions=frozenset()))
    many = replace(ROW, actions=frozenset(f"{number}" for number in range(9)))
    assert "(they handle 0, 1, 2, 3, 4, …)" in warning("pay", many)
