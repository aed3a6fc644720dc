"""The place of a request in DueIndex, and how each change of status writes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamer_store import (
    AsyncRequest,
    Claim,
    Lane,
    Priority,
    RequestStatus,
    Rescued,
    Undecodable,
    ValidationError,
    codec,
    operator_writes,
    writes,
)
from streamer_store.engine import Update
from streamer_store.lanes import Place, place_of, priority_of
from streamer_store.times import NEVER, format_time
from unit.store.expected_writes import FRESH, HELD, LANES, MOVES, NOW, RUNNING, SEEN

CREATED = NOW - timedelta(hours=1)
AFTER = NOW + timedelta(hours=1)
_S = RequestStatus
HIGH, LOW, NORMAL = Priority.HIGH, Priority.LOW, None


@pytest.mark.parametrize(
    ("status", "priority", "place"),
    [
        (_S.PENDING, NORMAL, None),
        (_S.PENDING, HIGH, Place(Lane.HIGH, CREATED)),
        (_S.PENDING, LOW, Place(Lane.LOW, CREATED)),
        (_S.RETRYING, NORMAL, Place(Lane.DUE, AFTER)),
        (_S.RETRYING, HIGH, Place(Lane.HIGH, AFTER)),
        (_S.RETRYING, LOW, Place(Lane.LOW, AFTER)),
        (_S.SCHEDULED, NORMAL, Place(Lane.DUE, AFTER)),
        (_S.SCHEDULED, HIGH, Place(Lane.HIGH, AFTER)),
        (_S.SCHEDULED, LOW, Place(Lane.LOW, AFTER)),
        *((status, HIGH, None) for status in _S if status.value in {"PROCESSING", "COMPLETED"}),
        *((status, LOW, None) for status in _S if status.value in {"FAILED", "CANCELLED"}),
    ],
)
def test_the_place_follows_from_status_and_priority(
    status: RequestStatus, priority: Priority | None, place: Place | None
) -> None:
    """A request stands in DueIndex only while it waits, at the time from which it may run."""
    assert place_of(status, priority, created_at=CREATED, retry_after=AFTER) == place


def test_a_request_without_times_may_run_at_once() -> None:
    """RetryAfter is absent if Go wrote its zero time, and CreatedAt if the item is broken."""
    without_retry = place_of(_S.RETRYING, None, created_at=CREATED, retry_after=None)
    assert without_retry == Place(Lane.DUE, CREATED)
    assert place_of(_S.RETRYING, None, created_at=None, retry_after=None) == Place(Lane.DUE, NEVER)


@pytest.mark.parametrize("value", ["urgent", "", "HIGH", 7, None, True, {"high": 1}, ["low"]])
def test_a_priority_that_is_not_known_is_normal(value: object) -> None:
    assert priority_of(value) is None


def test_a_priority_must_be_a_priority() -> None:
    """A text is refused, because it could be misspelt."""
    with pytest.raises(ValidationError, match="'high' is not a priority"):
        AsyncRequest(action="echo", priority="high")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MOVES)
def test_every_change_of_status_sets_or_removes_the_lane(name: str) -> None:
    """A lane of an earlier status is removed, whichever release wrote it."""
    update = MOVES[name][0]
    assert set(update.sets) >= LANES or set(update.removes) >= LANES


def changes(priority: Priority | None) -> dict[str, Update]:
    """Return the writes after which a request waits."""
    request = replace(SEEN, priority=priority, created_at=CREATED)
    held = Claim(request=replace(HELD.request, priority=priority, created_at=CREATED), version="v")
    item: dict[str, Any] = {
        "RequestID": {"S": "r1"},
        "Status": {"S": "FAILED"},
        "CreatedAt": {"S": "2026-03-14T12:00:00+01:00"},
        **({} if priority is None else {"Priority": {"S": priority.value}}),
    }
    wait = timedelta(hours=1)
    named = {"error": "no", "code": "BAD", "version": FRESH, "now": NOW}
    return {
        "retry": writes.retry(held, after=wait, counts=True, **named),  # type: ignore[arg-type]
        "rescue": writes.rescue(
            RUNNING,
            request,
            rescued=Rescued(rescues=1, solo=0, after=wait),
            **named,  # type: ignore[arg-type]
        ),
        "release": writes.release(held, version=FRESH, now=NOW),
        "redrive": operator_writes.redrive(item, version=FRESH, message=None, now=NOW),
    }


@pytest.mark.parametrize(
    ("priority", "lane"), [(NORMAL, Lane.DUE), (HIGH, Lane.HIGH), (LOW, Lane.LOW)]
)
@pytest.mark.parametrize("name", ["retry", "rescue"])
def test_a_request_that_waits_for_later_stands_at_that_time(
    priority: Priority | None, lane: Lane, name: str
) -> None:
    update = changes(priority)[name]
    place = Place(lane, AFTER).values()
    assert update.sets.items() >= {"Status": {"S": "RETRYING"}, **place}.items()
    assert update.sets["DueAt"] == update.sets["RetryAfter"]


@pytest.mark.parametrize(("name", "created"), [("release", CREATED), ("redrive", CREATED)])
def test_a_request_that_may_run_at_once_stands_at_its_creation(
    name: str, created: datetime
) -> None:
    """High ones keep their place in the queue. Low ones are never PENDING."""
    high, low, normal = (changes(priority)[name] for priority in (HIGH, LOW, NORMAL))
    assert (high.sets["Status"], low.sets["Status"]) == ({"S": "PENDING"}, {"S": "SCHEDULED"})
    assert high.sets.items() >= Place(Lane.HIGH, created).values().items()
    assert low.sets.items() >= Place(Lane.LOW, created).values().items()
    assert low.sets["RetryAfter"] == {"S": format_time(created)}
    assert "RetryAfter" not in {*high.sets, *normal.sets, *low.removes}
    assert normal.sets["Status"] == {"S": "PENDING"}
    assert set(normal.removes) >= LANES


ENTRY: dict[str, Any] = {
    "RequestID": {"S": "r1"},
    "Status": {"S": "RETRYING"},
    "CreatedAt": {"S": "2026-03-14T12:00:00+01:00"},
    "RetryAfter": {"S": "2026-03-14T13:00:00Z"},
    "Action": {"S": "echo"},
    "Version": {"S": "v1"},
    "DueLane": {"S": "due"},
    "DueAt": {"S": "2026-03-14T13:00:00.000000Z"},
}


@pytest.mark.parametrize(
    ("changed", "misplaced"),
    [
        ({}, False),
        ({"DueAt": {"S": "2026-03-14T13:00:00Z"}}, True),
        ({"DueAt": {"S": "2026-03-14T13:00:01.000000Z"}}, True),
        ({"DueLane": {"S": "low"}}, True),
        ({"DueLane": {"S": "low"}, "Priority": {"S": "low"}}, False),
        ({"Status": {"S": "PENDING"}}, True),
        ({"Status": {"S": "COMPLETED"}}, True),
        ({"RetryAfter": {"S": "0001-01-01T00:00:00Z"}}, True),
        (
            {
                "RetryAfter": {"S": "0001-01-01T00:00:00Z"},
                "DueAt": {"S": "2026-03-14T11:00:00.000000Z"},
            },
            False,
        ),
    ],
)
def test_an_entry_in_a_wrong_place_is_misplaced(changed: dict[str, Any], misplaced: bool) -> None:  # noqa: FBT001
    """The text of DueAt must be exactly ours, because the index sorts by it."""
    entry = codec.due_entry(ENTRY | changed)
    assert entry.misplaced is misplaced
    assert entry.created_at == datetime(2026, 3, 14, 11, tzinfo=UTC)


@pytest.mark.parametrize("status", [{"S": "PAUSED"}, {"N": "1"}, {"S": ""}])
def test_an_entry_of_an_unknown_status_cannot_be_decoded(status: Any) -> None:
    """A later release may have more. The error has the id of the request."""
    with pytest.raises(Undecodable, match="not known to this release") as caught:
        codec.due_entry(ENTRY | {"Status": status})
    assert caught.value.key == "r1"
