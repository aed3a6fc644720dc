"""What the loss of a worker means for a request: counts, waits, ends."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from streamer_store import AsyncRequest, RequestStatus, Rescued, WorkerLoss
from streamer_store.rescues import after_loss, is_suspect, probation_of
from support import START

REQUEST = AsyncRequest(
    action="echo",
    request_id="r1",
    status=RequestStatus.PROCESSING,
    processing_started=START,
    version="v7",
    retry_count=2,
    max_retries=3,
)


def lost(request: AsyncRequest, *, seen_after: float | None = None, most: int = 5) -> Rescued:
    last_seen = None if seen_after is None else START + timedelta(seconds=seen_after)
    loss = WorkerLoss(last_seen=last_seen, max_rescues=most)
    return after_loss(request, loss, random.Random(7))


def suspect(rescues: int, *, solo: int = 0, alone: bool = True) -> AsyncRequest:
    return replace(REQUEST, rescues=rescues, solo=solo, alone="v7" if alone else "v6")


@pytest.mark.parametrize(("rescues", "longest"), [(0, 2), (1, 4), (3, 16), (8, 512), (40, 900)])
def test_the_wait_doubles_with_each_rescue_up_to_15_minutes(rescues: int, longest: float) -> None:
    """Full jitter: anything from nothing to the longest, so that neighbours part."""
    request = suspect(rescues, alone=False)
    rng = random.Random(3)
    waits = [after_loss(request, WorkerLoss(), rng).after for _ in range(300)]
    seconds = [each.total_seconds() for each in waits if each is not None]
    assert len(seconds) == 300
    assert 0 <= min(seconds) < longest / 10
    assert longest * 0.9 < max(seconds) <= longest


def test_a_request_without_retries_ends_with_its_worker() -> None:
    """It must not be started again after a crash."""
    assert lost(replace(REQUEST, max_retries=0)) == Rescued(rescues=1, solo=0, after=None)


def test_its_last_retry_does_not_end_a_request_whose_worker_is_lost() -> None:
    """RetryCount counts what the handler did; a crash may be anybody's."""
    rescued = lost(replace(REQUEST, retry_count=3, max_retries=3))
    assert (rescued.rescues, rescued.solo) == (1, 0)
    assert rescued.after is not None


@pytest.mark.parametrize(
    ("seen_after", "solo"),
    [
        (None, 3),  # nobody knows when: it was within
        (-3.0, 3),  # the last heartbeat came before the claim
        (59.9, 3),
        (60.0, 0),
        (7200.0, 0),
    ],
)
def test_a_loss_within_the_probation_counts_against_the_suspect_alone(
    seen_after: float | None, solo: int
) -> None:
    """Later ones may be the work of the next suspect, so the count starts again."""
    assert lost(suspect(2, solo=2), seen_after=seen_after).solo == solo


def test_who_was_not_claimed_into_probation_was_not_alone() -> None:
    """Alone names the claim that was: another claim's does not count."""
    assert lost(suspect(2, solo=3, alone=False), seen_after=1).solo == 0
    assert lost(replace(REQUEST, rescues=2, solo=3), seen_after=1).solo == 0


@pytest.mark.parametrize(
    ("rescues", "solo", "ends"),
    [(4, 9, False), (5, 2, False), (5, 3, True), (20, 2, False), (20, 3, True)],
)
def test_more_than_five_rescues_the_last_four_alone_end_a_request(
    rescues: int, solo: int, *, ends: bool
) -> None:
    """Neither many crashes of others nor a few of its own are enough."""
    rescued = lost(suspect(rescues, solo=solo), seen_after=1)
    assert (rescued.after is None) is ends
    assert (rescued.rescues, rescued.solo) == (rescues + 1, solo + 1)


def test_how_many_rescues_are_survived_is_a_setting() -> None:
    """With 3, the fourth may end it; the last four must have been alone all the same."""
    assert lost(suspect(3, solo=3), seen_after=1, most=3).after is None
    assert lost(suspect(3, solo=2), seen_after=1, most=3).after is not None


def test_the_probation_doubles_with_each_further_rescue() -> None:
    """What kills late is found, too. A count that no queue reaches is no overflow."""
    seconds = [probation_of(rescues).total_seconds() for rescues in range(7)]
    assert seconds == [60, 60, 60, 120, 240, 480, 960]
    assert probation_of(10**9) > probation_of(10)


def test_two_rescues_make_a_suspect() -> None:
    """One crash says nothing."""
    assert [is_suspect(rescues) for rescues in range(4)] == [False, False, True, True]
