"""`enqueue --in`, `enqueue --at`, `reschedule`, and lines with `run_at`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from integration.desk import Desk, desk

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["desk"]


def due_of(shown: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(shown["retry_after"])


def error_of(desk: Desk, *arguments: str) -> str:
    """Return the error of a command that exits with 1."""
    return str(desk.run(*arguments, code=1).exception)


def test_a_request_is_enqueued_for_later(desk: Desk) -> None:
    """By a delay or a time. The id alone is on standard output."""
    before = datetime.now(UTC)
    enqueued = desk.run("enqueue", "a", "--id", "in", "--in", "1h30m")
    assert enqueued.stdout == "in\n"
    assert enqueued.stderr.startswith("it runs in 1h 30m, at ")
    shown = desk.json("show", "in")
    assert shown["status"] == "SCHEDULED"
    assert timedelta(minutes=90) <= due_of(shown) - before < timedelta(minutes=91)
    at = (before + timedelta(days=2)).replace(microsecond=0, tzinfo=None)
    desk.run("enqueue", "a", "--id", "at", "--at", f"{at.isoformat()}+01:00")
    assert due_of(desk.json("show", "at")) == at.replace(tzinfo=UTC) - timedelta(hours=1)
    listed = desk.json("list", "--status", "scheduled")
    assert {request["request_id"] for request in listed} == {"in", "at"}
    past = desk.run("enqueue", "a", "--id", "past", "--at", "2020-01-01T00:00Z")
    assert past.stderr.startswith("it runs at once")
    assert desk.json("show", "past")["status"] == "PENDING"
    assert "retry_after" in json.loads(desk.run("enqueue", "a", "--in", "1m", "--json").stdout)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--at", "2027-01-01T08:00"), "has no time zone: add Z for UTC, or an offset"),
        (("--at", "tomorrow"), "is no time in ISO 8601"),
        (("--in", "soon"), "is not a duration"),
        (("--in", "-5m"), "is not a duration"),
        (("--in", "1m", "--at", "2027-01-01T08:00Z"), "--in and --at cannot be combined"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_a_wrong_time_is_refused(options: tuple[str, ...], text: str, desk: Desk) -> None:
    """In words, with exit code 2, by both commands, before anything is written."""
    for command in (("enqueue", "a"), ("reschedule", "nobody")):
        stderr = " ".join(desk.run(*command, *options, code=2).stderr.split())
        assert text in stderr.replace("│ ", "").replace(" │", "")
    assert desk.json("list") == []


def test_a_time_more_than_a_year_ahead_must_be_allowed(desk: Desk) -> None:
    """It is more often a mistake."""
    far = f"{datetime.now(UTC).year + 3}-01-01T00:00Z"
    assert "run_at: is more than a year ahead" in error_of(desk, "enqueue", "a", "--at", far)
    desk.run("enqueue", "a", "--id", "far", "--at", far, "--beyond-a-year")
    assert "more than a year ahead" in error_of(desk, "reschedule", "far", "--at", far)
    desk.run("reschedule", "far", "--at", far, "--beyond-a-year")


def test_a_waiting_request_is_rescheduled(desk: Desk) -> None:
    """By its id. Others are refused, with their status."""
    desk.enqueue("waits")
    moved = desk.run("reschedule", "waits", "--in", "2h")
    assert moved.stdout.startswith("waits is SCHEDULED, and runs in ")
    sooner = desk.run("reschedule", "waits", "--at", "2020-01-01T00:00Z")
    assert sooner.stdout == "waits is SCHEDULED, and runs at once\n"
    assert json.loads(desk.run("reschedule", "waits", "--in", "1h", "--json").stdout)["status"] == (
        "SCHEDULED"
    )
    desk.run("cancel", "waits")
    assert "is CANCELLED" in error_of(desk, "reschedule", "waits", "--in", "1h")
    assert "no such request" in error_of(desk, "reschedule", "nobody", "--in", "1h")
    assert "give --in or --at" in desk.run("reschedule", "waits", code=2).stderr


def test_lines_of_a_file_may_have_a_time(desk: Desk, tmp_path: Path) -> None:
    """Added again, they are left alone. A time without a zone, or too far ahead, is refused."""
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    far = f"{datetime.now(UTC).year + 3}-01-01T00:00Z"
    file = tmp_path / "requests.jsonl"
    lines = [
        {"action": "a", "request_id": "later", "run_at": at},
        {"action": "a", "request_id": "local", "run_at": "2027-01-01T08:00"},
        {"action": "a", "request_id": "far", "run_at": far},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    enqueue = ("enqueue", "--file", str(file), "--yes")
    refused = desk.run(*enqueue, code=1).stderr
    assert "line 2: run_at: '2027-01-01T08:00' has no time zone: add Z for UTC" in refused
    assert "line 3" in refused
    assert "more than a year ahead" in refused
    again = desk.run(*enqueue, "--beyond-a-year", code=1)
    assert again.stdout == "1 request enqueued, 1 there already, 1 refused\n"
    assert desk.json("show", "later")["status"] == "SCHEDULED"
    assert desk.json("show", "far")["status"] == "SCHEDULED"
