"""What an index entry or a part of an item tells, when it cannot all be read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamer_store import Candidate, RequestStatus, Undecodable, codec

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
ENTRY = {
    "RequestID": {"S": "r1"},
    "Status": {"S": "RETRYING"},
    "CreatedAt": {"S": "2026-03-14T12:00:00Z"},
    "Action": {"S": "echo"},
    "TenantID": {"S": "t1"},
    "RetryAfter": {"S": "2026-03-14T12:00:00Z"},
    "WorkerID": {"S": "w1"},
    "Version": {"S": "v1"},
}


def test_a_candidate_holds_what_the_index_carries() -> None:
    """Each projected attribute has its field; the Version stays as the index held it."""
    assert codec.candidate(ENTRY) == Candidate(
        request_id="r1",
        status=RequestStatus.RETRYING,
        seen_version={"S": "v1"},
        action="echo",
        tenant_id="t1",
        created_at=NOON,
        retry_after=NOON,
        worker_id="w1",
    )


def test_an_entry_by_go_has_no_version() -> None:
    """The claim then asks that there is still none."""
    entry = {name: value for name, value in ENTRY.items() if name != "Version"}
    found = codec.candidate(entry)
    assert found.seen_version is None
    assert found.broken is None


@pytest.mark.parametrize(
    ("name", "wrong", "broken"),
    [
        ("RetryAfter", {"S": "soon"}, "RetryAfter: not an RFC 3339 time"),
        ("CreatedAt", {"S": "once"}, "CreatedAt: not an RFC 3339 time"),
        ("Action", {"N": "5"}, "Action: expected text, found int"),
        ("TenantID", {"L": []}, "TenantID: expected text, found list"),
        ("WorkerID", {"BOOL": True}, "WorkerID: expected text, found bool"),
        ("Version", {"N": "1"}, "Version: expected text, found type N"),
    ],
)
def test_a_wrong_entry_is_broken_and_not_lost(name: str, wrong: Any, broken: str) -> None:
    """It stays a candidate that can be claimed, and says what is wrong with it."""
    found = codec.candidate(ENTRY | {name: wrong})
    assert found.request_id == "r1"
    assert found.broken is not None
    assert broken in found.broken


def test_a_version_that_is_no_text_is_kept_for_the_condition() -> None:
    """The claim compares with what the index held, of whatever type."""
    assert codec.candidate(ENTRY | {"Version": {"N": "1"}}).seen_version == {"N": "1"}


def test_a_retry_with_a_time_that_cannot_be_read_is_due() -> None:
    """It is claimed and fails, rather than wait for ever."""
    assert codec.candidate(ENTRY | {"RetryAfter": {"S": "soon"}}).due(NOON)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"LastPing": {"S": "2026-03-14T12:00:00Z"}}, NOON),
        ({"ConnectedAt": {"S": "2026-03-14T12:00:00Z"}}, NOON),
        (
            {
                "LastPing": {"S": "2026-03-14T12:00:00Z"},
                "ConnectedAt": {"S": "2026-03-14T11:00:00Z"},
            },
            NOON,
        ),
        (
            {
                "LastPing": {"S": "0001-01-01T00:00:00Z"},
                "ConnectedAt": {"S": "2026-03-14T12:00:00Z"},
            },
            NOON,
        ),
    ],
)
def test_a_connection_was_last_heard_at_its_ping_or_its_start(
    attributes: Any, expected: datetime
) -> None:
    """Nothing else of the connection needs to be readable for that."""
    assert codec.last_heard({"ConnectionID": {"S": "c1"}} | attributes) == expected


def test_a_connection_never_heard_of_is_undecodable() -> None:
    """Without any time there is no saying whether it is stale."""
    with pytest.raises(Undecodable, match="LastPing and ConnectedAt are missing"):
        codec.last_heard({"ConnectionID": {"S": "c1"}})


@pytest.mark.parametrize(
    ("item", "expected"),
    [({}, ""), ({"A": {"N": "5"}}, ""), ({"A": {"S": "x"}}, "x"), ({"A": {"S": 5}}, "")],
)
def test_raw_text_judges_nothing(item: Any, expected: str) -> None:
    """The text of one attribute, or nothing, whatever the rest of the item is."""
    assert codec.raw_text(item, "A") == expected
