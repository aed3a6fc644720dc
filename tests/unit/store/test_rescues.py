"""The decision what happens to a request whose worker was lost."""

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
    """The wait is random between 0 and the maximum, so that requests spread out."""
    request = suspect(rescues, alone=False)
    rng = random.Random(3)
    waits = [after_loss(request, WorkerLoss(), rng).after for _ in range(300)]
    seconds = [wait.total_seconds() for wait in waits if wait is not None]
    assert len(seconds) == 300
    assert 0 <= min(seconds) < longest / 10
    assert longest * 0.9 < max(seconds) <= longest


def test_a_request_without_retries_fails() -> None:
    """It must not be started again after a crash."""
    assert lost(replace(REQUEST, max_retries=0)) == Rescued(rescues=1, solo=0, after=None)


def test_a_loss_does_not_use_the_last_retry() -> None:
    """RetryCount counts failures of the handler only."""
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
def test_a_loss_during_the_probation_adds_to_solo(seen_after: float | None, solo: int) -> None:
    """A later loss may be caused by the next suspect, so it sets Solo to 0."""
    assert lost(suspect(2, solo=2), seen_after=seen_after).solo == solo


def test_only_the_claim_that_started_a_probation_counts() -> None:
    """If Alone is not the Version of the claim, the loss sets Solo to 0."""
    assert lost(suspect(2, solo=3, alone=False), seen_after=1).solo == 0
    assert lost(replace(REQUEST, rescues=2, solo=3), seen_after=1).solo == 0


@pytest.mark.parametrize(
    ("rescues", "solo", "ends"),
    [(4, 9, False), (5, 2, False), (5, 3, True), (20, 2, False), (20, 3, True)],
)
def test_more_than_five_rescues_with_the_last_four_solo_fail(
    rescues: int, solo: int, *, ends: bool
) -> None:
    """Many losses that others caused do not fail it, nor do a few of its own."""
    rescued = lost(suspect(rescues, solo=solo), seen_after=1)
    assert (rescued.after is None) is ends
    assert (rescued.rescues, rescued.solo) == (rescues + 1, solo + 1)


def test_max_rescues_can_be_set() -> None:
    """With 3, the fourth loss can fail the request. The last four must be solo all the same."""
    assert lost(suspect(3, solo=3), seen_after=1, most=3).after is None
    assert lost(suspect(3, solo=2), seen_after=1, most=3).after is not None


def test_the_probation_doubles_with_each_further_rescue() -> None:
    """It is 60 s for up to two rescues. A huge count does not overflow."""
    seconds = [probation_of(rescues).total_seconds() for rescues in range(7)]
    assert seconds == [60, 60, 60, 120, 240, 480, 960]
    assert probation_of(10**9) > probation_of(10)


def test_two_rescues_make_a_suspect() -> None:
    """One loss is not enough."""
    assert [is_suspect(rescues) for rescues in range(4)] == [False, False, True, True]


def test_a_request_without_a_version_was_not_alone() -> None:
    """Another producer's request has neither Version nor Alone."""
    request = replace(REQUEST, rescues=3, solo=2, alone=None, version=None)
    assert lost(request).solo == 0
