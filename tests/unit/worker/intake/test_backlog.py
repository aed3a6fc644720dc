"""A few waiting requests of each tenant and action are remembered."""

from __future__ import annotations

from streamer_store import Candidate, RequestStatus
from streamer_worker.intake.backlog import Backlog


def candidate(name: str, tenant: str | None = "t", action: str = "a") -> Candidate:
    return Candidate(request_id=name, status=RequestStatus.PENDING, action=action, tenant_id=tenant)


def filled(*candidates: Candidate) -> Backlog:
    backlog = Backlog()
    for each in candidates:
        backlog.add(each)
    return backlog


def heads(backlog: Backlog, at_most: int, served: dict[str | None, int] | None = None) -> list[str]:
    turns = served or {}
    found = backlog.heads(at_most, lambda tenant: turns.get(tenant, 0))
    return [each.request_id for each in found]


def test_each_lane_has_its_share() -> None:
    """A tenant with many requests does not crowd out one with few, nor an action another."""
    big = [candidate(f"big{number}", "big") for number in range(60)]
    backlog = filled(*big, candidate("s1", "small"), candidate("o1", "big", "other"))
    assert heads(backlog, 6) == ["big0", "big1", "s1", "o1"]


def test_tenants_served_longest_ago_come_first() -> None:
    """Where there are more lanes than are asked for."""
    backlog = filled(*(candidate(tenant, tenant) for tenant in "abcd"))
    assert heads(backlog, 2, {"a": 9, "b": 2, "c": 7, "d": 1}) == ["d", "b"]


def test_a_lane_is_bounded_and_so_are_the_lanes() -> None:
    """64 of a lane, a thousand lanes: those added to longest ago are forgotten."""
    backlog = filled(*(candidate(f"r{number}") for number in range(1000)))
    assert len(heads(backlog, 5000)) == 64
    for number in range(1000):
        backlog.add(candidate(f"n{number}", f"tenant{number}"))
    found = heads(backlog, 5000)
    assert len(found) == 1000
    assert "r0" not in found


def test_what_was_tried_is_forgotten() -> None:
    """Also the last of its lane, and what was never there."""
    one, two = candidate("r1"), candidate("r2")
    backlog = filled(one, two)
    backlog.discard(one)
    assert heads(backlog, 9) == ["r2"]
    backlog.discard(two)
    backlog.discard(two)
    assert heads(backlog, 9) == []


def test_a_newer_state_replaces_an_older_one() -> None:
    """A claim is for a state: an old one would fail."""
    newer = Candidate(
        request_id="r1",
        status=RequestStatus.RETRYING,
        action="a",
        tenant_id="t",
        seen_version={"S": "v2"},
    )
    backlog = filled(candidate("r1"), newer)
    assert backlog.heads(9, lambda _: 0) == [newer]
