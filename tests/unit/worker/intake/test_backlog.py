"""The backlog of a few waiting requests of each tenant and action."""

from __future__ import annotations

from streamer_store import Candidate, RequestStatus
from streamer_worker.intake.backlog import Backlog


def candidate(name: str, tenant: str | None = "t", action: str = "a") -> Candidate:
    return Candidate(request_id=name, status=RequestStatus.PENDING, action=action, tenant_id=tenant)


def filled(*candidates: Candidate) -> Backlog:
    backlog = Backlog()
    for candidate in candidates:
        backlog.add(candidate)
    return backlog


def heads(backlog: Backlog, at_most: int, served: dict[str | None, int] | None = None) -> list[str]:
    last_served = served or {}
    candidates = backlog.heads(at_most, lambda tenant: last_served.get(tenant, 0))
    return [candidate.request_id for candidate in candidates]


def test_each_group_has_its_share() -> None:
    """A tenant with many requests does not displace a small first, nor one action another."""
    big = [candidate(f"big{number}", "big") for number in range(60)]
    backlog = filled(*big, candidate("s1", "small"), candidate("o1", "big", "other"))
    assert heads(backlog, 6) == ["big0", "big1", "s1", "o1"]


def test_tenants_served_longest_ago_come_first() -> None:
    """If there are more groups than requested."""
    backlog = filled(*(candidate(tenant, tenant) for tenant in "abcd"))
    assert heads(backlog, 2, {"a": 9, "b": 2, "c": 7, "d": 1}) == ["d", "b"]


def test_groups_are_bounded_in_size_and_number() -> None:
    """At most 64 requests a group and 1,000 groups: the group added to longest ago is forgotten."""
    backlog = filled(*(candidate(f"r{number}") for number in range(1000)))
    assert len(heads(backlog, 5000)) == 64
    for number in range(1000):
        backlog.add(candidate(f"n{number}", f"tenant{number}"))
    request_ids = heads(backlog, 5000)
    assert len(request_ids) == 1000
    assert "r0" not in request_ids


def test_a_discarded_request_is_forgotten() -> None:
    """Also the last one of its group. An unknown one is ignored."""
    first, second = candidate("r1"), candidate("r2")
    backlog = filled(first, second)
    backlog.discard(first)
    assert heads(backlog, 9) == ["r2"]
    backlog.discard(second)
    backlog.discard(second)
    assert heads(backlog, 9) == []


def test_a_newer_state_replaces_an_older_one() -> None:
    """A claim is conditional on the state, so one for an old state would fail."""
    newer = Candidate(
        request_id="r1",
        status=RequestStatus.RETRYING,
        action="a",
        tenant_id="t",
        seen_version={"S": "v2"},
    )
    backlog = filled(candidate("r1"), newer)
    assert backlog.heads(9, lambda _: 0) == [newer]
