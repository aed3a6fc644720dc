"""Index entries and items that can be read only in part."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamer_store import Candidate, EventType, RequestStatus, Undecodable, codec

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


def test_a_candidate_has_the_attributes_of_the_index() -> None:
    """Every projected attribute has a field, and the Version is kept as an attribute value."""
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
    """The condition of the claim is then that there is still no Version."""
    entry = {name: value for name, value in ENTRY.items() if name != "Version"}
    candidate = codec.candidate(entry)
    assert candidate.seen_version is None
    assert candidate.broken is None


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
def test_an_entry_with_a_wrong_attribute_is_a_broken_candidate(
    name: str, wrong: Any, broken: str
) -> None:
    """It can be claimed, and `broken` describes the attribute."""
    candidate = codec.candidate(ENTRY | {name: wrong})
    assert candidate.request_id == "r1"
    assert candidate.broken is not None
    assert broken in candidate.broken


@pytest.mark.parametrize("backwards", [False, True])
def test_the_order_of_an_items_attributes_does_not_matter(*, backwards: bool) -> None:
    """DynamoDB returns them in any order. The error is the same for the same item."""
    wrong: dict[str, Any] = ENTRY | {"CreatedAt": {"S": "once"}, "TenantID": {"L": []}}
    item = dict(sorted(wrong.items(), reverse=backwards))
    assert (codec.candidate(item).broken or "").startswith("TenantID: expected text")
    with pytest.raises(Undecodable, match="CreatedAt: not an RFC 3339 time"):
        codec.request(item)


def test_a_version_of_another_type_is_kept_for_the_condition() -> None:
    """The claim compares the Version with that of the index, of any type."""
    assert codec.candidate(ENTRY | {"Version": {"N": "1"}}).seen_version == {"N": "1"}


def test_a_retry_with_a_wrong_time_is_due() -> None:
    """It is claimed and fails. Otherwise it would wait forever."""
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
    """ConnectedAt counts where there is no LastPing. Other attributes may be absent."""
    assert codec.last_heard({"ConnectionID": {"S": "c1"}} | attributes) == expected


def test_a_connection_without_a_time_is_undecodable() -> None:
    """Without a time, nobody knows whether it is stale."""
    with pytest.raises(Undecodable, match="LastPing and ConnectedAt are missing"):
        codec.last_heard({"ConnectionID": {"S": "c1"}})


@pytest.mark.parametrize(
    ("item", "expected"),
    [({}, ""), ({"A": {"N": "5"}}, ""), ({"A": {"S": "x"}}, "x"), ({"A": {"S": 5}}, "")],
)
def test_raw_text_returns_text_or_an_empty_text(item: Any, expected: str) -> None:
    """An attribute that is absent or of another type gives an empty text."""
    assert codec.raw_text(item, "A") == expected


def test_a_candidate_has_the_rescues_of_an_index_that_projects_them() -> None:
    """A suspect is then known before its claim."""
    assert codec.candidate(ENTRY | {"Rescues": {"N": "3"}}).rescues == 3


def test_a_worker_whose_start_cannot_be_read_leads_last() -> None:
    """The row is reported, and its worker counts as alive."""
    row = codec.worker({"WorkerID": {"S": "w1"}, "StartedAt": {"N": "7"}})
    assert row.started_at == datetime.max.replace(tzinfo=UTC)
    assert (row.broken or "").startswith("StartedAt")


def test_event_types_of_another_release_are_kept_apart() -> None:
    """A known type is read, whatever else the subscription has."""
    subscription = codec.subscription(
        {
            "SubscriptionID": {"S": "c1#r1"},
            "ConnectionID": {"S": "c1"},
            "RequestID": {"S": "r1"},
            "EventTypes": {"SS": ["complete", "log"]},
        }
    )
    assert subscription.event_types == {EventType.COMPLETE}
    assert subscription.unknown_event_types == {"log"}


def test_a_connection_with_gos_zero_time_was_never_heard() -> None:
    """Year 1 is no time at which it was heard, so it is not stale."""
    item = {"ConnectionID": {"S": "c1"}, "ConnectedAt": {"S": "0001-01-01T00:00:00Z"}}
    with pytest.raises(Undecodable):
        codec.last_heard(item)
