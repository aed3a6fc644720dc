"""What a worker remembers of the waiting requests that it has seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from streamer_store import Candidate, RequestStatus
from streamer_worker.intake.seen import Sightings
from support import START, ManualClock

SEEN = Candidate(
    request_id="r", status=RequestStatus.RETRYING, action="echo", seen_version={"S": "v1"}
)
MOVED_ON = replace(SEEN, seen_version={"S": "v2"})


@pytest.fixture
def sightings(clock: ManualClock) -> Sightings:
    return Sightings(clock=clock)


def later(name: str, seconds: float) -> Candidate:
    return replace(SEEN, request_id=name, retry_after=START + timedelta(seconds=seconds))


def ours(_candidate: Candidate) -> bool:
    return True


def names(candidates: list[Candidate]) -> list[str]:
    return [each.request_id for each in candidates]


def test_what_was_lost_is_lost_until_it_moves_on(sightings: Sightings) -> None:
    """Another Version is another chance."""
    assert not sightings.is_lost(SEEN)
    sightings.lose(SEEN)
    assert sightings.is_lost(SEEN)
    assert not sightings.is_lost(MOVED_ON)


def test_what_failed_is_remembered_by_its_version(sightings: Sightings) -> None:
    """It is tried again, only later."""
    sightings.fail(SEEN)
    assert sightings.has_failed(SEEN)
    assert not sightings.has_failed(MOVED_ON)
    assert not sightings.is_lost(SEEN)


def test_it_is_known_how_long_a_request_waits_in_our_sight(
    sightings: Sightings, clock: ManualClock
) -> None:
    """From its first sighting as it is now, on our own steady clock."""
    assert sightings.seen_for(SEEN) == 0
    clock.advance(3)
    assert sightings.seen_for(SEEN) == 3
    assert sightings.seen_for(MOVED_ON) == 0


def test_an_unknown_action_is_new_until_it_was_seen(sightings: Sightings) -> None:
    """And again when somebody took it meanwhile."""
    assert sightings.is_new("report")
    assert not sightings.is_new("report")
    sightings.known("report")
    assert sightings.is_new("report")


def test_retries_are_kept_until_they_are_due(sightings: Sightings, clock: ManualClock) -> None:
    """Each at its own time, however they were found."""
    for name, seconds in [("c", 30), ("a", 10), ("b", 20)]:
        sightings.keep(later(name, seconds))
    assert sightings.next_due() == pytest.approx(10)
    assert sightings.due(ours) == []
    clock.advance(20)
    assert names(sightings.due(ours)) == ["a", "b"]
    assert sightings.next_due() == pytest.approx(10)


def test_what_is_due_stays_until_it_was_tried(sightings: Sightings, clock: ManualClock) -> None:
    """A look without a free slot forgets nothing."""
    sightings.keep(later("a", 1))
    clock.advance(5)
    assert names(sightings.due(ours)) == ["a"]
    assert names(sightings.due(ours)) == ["a"]
    sightings.tried(later("a", 1))
    assert sightings.due(ours) == []


def test_what_is_not_ours_any_more_is_forgotten(sightings: Sightings, clock: ManualClock) -> None:
    """Its new home has seen it, too; we would only meet it at a claim that is lost."""
    sightings.keep(later("a", 1))
    sightings.keep(later("b", 1))
    clock.advance(5)
    assert names(sightings.due(lambda each: each.request_id == "b")) == ["b"]
    assert names(sightings.due(ours)) == ["b"]


def test_a_retry_is_kept_once(sightings: Sightings, clock: ManualClock) -> None:
    """Though every look shows it again."""
    for _ in range(100):
        sightings.keep(later("a", 1))
    clock.advance(1)
    assert names(sightings.due(ours)) == ["a"]
    assert sightings.next_due() is None


def test_two_retries_of_one_time_are_both_kept(sightings: Sightings, clock: ManualClock) -> None:
    """Equal times are ordered, too."""
    sightings.keep(later("a", 1))
    sightings.keep(later("b", 1))
    clock.advance(1)
    assert sorted(names(sightings.due(ours))) == ["a", "b"]


def test_what_is_due_soon_is_kept_before_what_is_due_late(
    sightings: Sightings, clock: ManualClock
) -> None:
    """Ten thousand that sleep for a month do not make one that is due in seconds late."""
    for number in range(10_000):
        sightings.keep(later(str(number), 30 * 86400 + number))
    sightings.keep(later("soon", 5))
    assert sightings.next_due() == pytest.approx(5)
    clock.advance(5)
    assert names(sightings.due(ours)) == ["soon"]


def test_memory_is_bounded(sightings: Sightings, clock: ManualClock) -> None:
    """A table with a hundred thousand retries does not fill the worker."""
    for number in range(12_000):
        sightings.keep(later(str(number), number))
        sightings.lose(replace(SEEN, request_id=str(number)))
    assert len(sightings._times) == len(sightings._later) == 10_000
    clock.advance(20_000)
    assert len(sightings.due(ours)) == 10_000
    sightings.keep(later("more", 30_000))
    clock.advance(20_000)
    assert len(sightings.due(ours)) == 10_000
    assert sightings.next_due() is None
    assert not sightings.is_lost(replace(SEEN, request_id="0"))
    assert sightings.is_lost(replace(SEEN, request_id="11999"))
