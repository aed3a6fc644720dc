"""How the priority of a request decides when it goes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from streamer_store import Candidate, Priority, RequestStatus
from streamer_worker.intake.rotation import RankedCandidate
from streamer_worker.intake.selection import Selection, new_turns
from streamer_worker.intake.urgency import Urgency, urgency_of
from support import START
from unit.worker.intake.test_selection import BULK, Limited, take_all, waiting

HOUR = timedelta(hours=1)


def ranked(
    name: str,
    urgency: Urgency = Urgency.NORMAL,
    *,
    rank: int = 0,
    tenant: str | None = None,
    action: str = "echo",
) -> RankedCandidate:
    candidate = waiting(name, tenant=tenant, action=action)
    return RankedCandidate(candidate=candidate, urgency=urgency, rank=rank)


def selection(*candidates: RankedCandidate, capacity: Limited | None = None) -> Selection:
    others = [each for each in candidates if each.rank]
    return Selection(
        own=[each for each in candidates if not each.rank],
        high=[each for each in others if each.urgency is Urgency.HIGH],
        others=[each for each in others if each.urgency is not Urgency.HIGH],
        capacity=capacity or Limited(),
        turns=new_turns(),
    )


def taken(made: Selection, total: int = 9, capacity: Limited | None = None) -> list[str]:
    return [each.request_id for each in take_all(made, capacity or Limited(), total)]


@pytest.mark.parametrize(
    ("status", "retry_after"),
    [
        (RequestStatus.SCHEDULED, START),
        (RequestStatus.RETRYING, START),
        (RequestStatus.PENDING, None),
    ],
)
def test_a_low_request_counts_as_normal_after_its_patience(
    status: RequestStatus, retry_after: object
) -> None:
    """From when it could run: a retry, and one for later, wait anew."""
    created_at = START if retry_after is None else START - 9 * HOUR
    candidate = Candidate(
        request_id="r",
        status=status,
        priority=Priority.LOW,
        created_at=created_at,
        retry_after=retry_after,  # type: ignore[arg-type]
    )
    almost = START + HOUR - timedelta(seconds=1)
    assert urgency_of(candidate, now=almost, patience=HOUR) is Urgency.LOW
    assert urgency_of(candidate, now=START + HOUR, patience=HOUR) is Urgency.NORMAL


def test_a_high_request_is_always_high() -> None:
    """However long it waits. One without a priority is normal."""
    for priority, urgency in ((Priority.HIGH, Urgency.HIGH), (None, Urgency.NORMAL)):
        candidate = Candidate(
            request_id="r", status=RequestStatus.PENDING, priority=priority, created_at=START
        )
        for waited in (timedelta(), 99 * HOUR):
            assert urgency_of(candidate, now=START + waited, patience=HOUR) is urgency


def test_high_requests_go_before_own_normal_ones_whatever_their_home() -> None:
    """Own high ones first, then those of other workers by rank."""
    made = selection(
        ranked("own"),
        ranked("high of the second", Urgency.HIGH, rank=2),
        ranked("high of the first", Urgency.HIGH, rank=1),
        ranked("own high", Urgency.HIGH),
    )
    assert taken(made) == ["own high", "high of the first", "high of the second", "own"]


def test_low_requests_wait_while_normal_ones_are_taken() -> None:
    """Own ones and those that are stolen. The poller then reads again."""
    for rank in (0, 1):
        made = selection(ranked("low", Urgency.LOW), ranked("normal", rank=rank))
        assert taken(made) == ["normal"]
        assert made.drop_others()
        assert made.take() is None
    made = selection(ranked("low", Urgency.LOW), ranked("their low", Urgency.LOW, rank=1))
    assert made.has_low_only
    assert taken(made) == ["low"]
    assert taken(selection(ranked("their low", Urgency.LOW, rank=1))) == ["their low"]


def test_low_requests_go_if_the_normal_ones_do_not_fit() -> None:
    """A free slot is not left empty because of an action at its limit."""
    capacity = Limited({BULK: 0})
    made = selection(ranked("bulk", action="bulk"), ranked("low", Urgency.LOW), capacity=capacity)
    assert not made.fits(Urgency.NORMAL)
    assert made.fits()
    assert taken(made, capacity=capacity) == ["low"]


def test_tenants_take_turns_within_an_urgency() -> None:
    """A tenant's high requests do not use the turns of its normal ones."""
    high = [ranked(f"a high {number}", Urgency.HIGH, tenant="a") for number in range(3)]
    normal = [ranked("b", tenant="b"), ranked("a", tenant="a")]
    made = selection(*high, ranked("b high", Urgency.HIGH, tenant="b"), *normal)
    order = taken(made)
    assert [name[0] for name in order[:2]] == ["a", "b"]
    assert set(order[4:]) == {"a", "b"}


def test_high_suspects_go_before_other_suspects() -> None:
    """Suspects go one at a time, so their order matters most."""
    suspects = [ranked("s normal"), ranked("s high", Urgency.HIGH, rank=1)]
    made = Selection(suspects=suspects, capacity=Limited(suspects=9), turns=new_turns())
    assert taken(made, capacity=Limited(suspects=9)) == ["s high", "s normal"]
