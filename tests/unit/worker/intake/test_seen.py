"""What a worker remembers of the waiting requests that it has seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from streamer_store import Candidate, RequestStatus
from streamer_worker.intake.seen import SeenRequests
from support import START, ManualClock

SEEN = Candidate(
    request_id="r", status=RequestStatus.RETRYING, action="echo", seen_version={"S": "v1"}
)
MOVED_ON = replace(SEEN, seen_version={"S": "v2"})


@pytest.fixture
def seen_requests(clock: ManualClock) -> SeenRequests:
    return SeenRequests(clock=clock)


def later(name: str, seconds: float) -> Candidate:
    return replace(SEEN, request_id=name, retry_after=START + timedelta(seconds=seconds))


def ours(_candidate: Candidate) -> bool:
    return True


def names(candidates: list[Candidate]) -> list[str]:
    return [candidate.request_id for candidate in candidates]


def test_a_lost_request_is_excluded_until_its_version_changes(seen_requests: SeenRequests) -> None:
    """Another Version may be claimed."""
    assert not seen_requests.is_lost(SEEN)
    seen_requests.mark_lost(SEEN)
    assert seen_requests.is_lost(SEEN)
    assert not seen_requests.is_lost(MOVED_ON)


def test_a_failed_claim_is_remembered_by_its_version(seen_requests: SeenRequests) -> None:
    """It is tried again, after others."""
    seen_requests.mark_failed(SEEN)
    assert seen_requests.has_failed(SEEN)
    assert not seen_requests.has_failed(MOVED_ON)
    assert not seen_requests.is_lost(SEEN)


def test_seen_for_counts_from_when_a_version_was_first_seen(
    seen_requests: SeenRequests, clock: ManualClock
) -> None:
    """On the worker's own steady clock."""
    assert seen_requests.seen_for(SEEN) == 0
    clock.advance(3)
    assert seen_requests.seen_for(SEEN) == 3
    assert seen_requests.seen_for(MOVED_ON) == 0


def test_an_unknown_action_is_new_once(seen_requests: SeenRequests) -> None:
    """And again after it was forgotten."""
    assert seen_requests.note_unknown_action("report")
    assert not seen_requests.note_unknown_action("report")
    seen_requests.forget_unknown_action("report")
    assert seen_requests.note_unknown_action("report")


def test_retries_are_deferred_until_they_are_due(
    seen_requests: SeenRequests, clock: ManualClock
) -> None:
    """Each is returned at its own time, whatever the order in which they were found."""
    for name, seconds in [("c", 30), ("a", 10), ("b", 20)]:
        seen_requests.defer(later(name, seconds))
    assert seen_requests.next_due() == pytest.approx(10)
    assert seen_requests.due(ours) == []
    clock.advance(20)
    assert names(seen_requests.due(ours)) == ["a", "b"]
    assert seen_requests.next_due() == pytest.approx(10)


def test_a_due_retry_is_returned_until_it_was_tried(
    seen_requests: SeenRequests, clock: ManualClock
) -> None:
    """A poll without a free slot forgets nothing."""
    seen_requests.defer(later("a", 1))
    clock.advance(5)
    assert names(seen_requests.due(ours)) == ["a"]
    assert names(seen_requests.due(ours)) == ["a"]
    seen_requests.mark_tried(later("a", 1))
    assert seen_requests.due(ours) == []


def test_retries_of_other_homes_are_forgotten(
    seen_requests: SeenRequests, clock: ManualClock
) -> None:
    """Their new home has seen them too. A claim by this worker would be lost."""
    seen_requests.defer(later("a", 1))
    seen_requests.defer(later("b", 1))
    clock.advance(5)
    assert names(seen_requests.due(lambda candidate: candidate.request_id == "b")) == ["b"]
    assert names(seen_requests.due(ours)) == ["b"]


def test_a_retry_is_deferred_once(seen_requests: SeenRequests, clock: ManualClock) -> None:
    """Although every poll shows it again."""
    for _ in range(100):
        seen_requests.defer(later("a", 1))
    clock.advance(1)
    assert names(seen_requests.due(ours)) == ["a"]
    assert seen_requests.next_due() is None


def test_two_retries_of_one_time_are_both_deferred(
    seen_requests: SeenRequests, clock: ManualClock
) -> None:
    """Equal times are ordered too."""
    seen_requests.defer(later("a", 1))
    seen_requests.defer(later("b", 1))
    clock.advance(1)
    assert sorted(names(seen_requests.due(ours))) == ["a", "b"]


def test_the_retry_that_is_due_last_is_forgotten_first(
    seen_requests: SeenRequests, clock: ManualClock
) -> None:
    """10,000 retries that wait for a month do not displace one that is due in seconds."""
    for number in range(10_000):
        seen_requests.defer(later(str(number), 30 * 86400 + number))
    seen_requests.defer(later("soon", 5))
    assert seen_requests.next_due() == pytest.approx(5)
    clock.advance(5)
    assert names(seen_requests.due(ours)) == ["soon"]


def test_memory_is_bounded(seen_requests: SeenRequests, clock: ManualClock) -> None:
    """A table with 100,000 retries does not fill the worker's memory."""
    for number in range(12_000):
        seen_requests.defer(later(str(number), number))
        seen_requests.mark_lost(replace(SEEN, request_id=str(number)))
    assert len(seen_requests._times) == len(seen_requests._deferred) == 10_000
    clock.advance(20_000)
    assert len(seen_requests.due(ours)) == 1000  # each poll looks at all of these
    seen_requests.defer(later("more", 30_000))
    clock.advance(20_000)
    assert len(seen_requests.due(ours)) == 1000
    assert seen_requests.next_due() is None
    assert not seen_requests.is_lost(replace(SEEN, request_id="0"))
    assert seen_requests.is_lost(replace(SEEN, request_id="11999"))
