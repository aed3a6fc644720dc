"""Which status can follow which, as the design lists it."""

from __future__ import annotations

from itertools import product

import pytest

from streamer_store import RequestStatus
from streamer_store.transitions import FOLLOWS, TERMINAL, WAITING, sources

LISTED = {
    ("PENDING", "PROCESSING"),
    ("RETRYING", "PROCESSING"),
    ("PROCESSING", "COMPLETED"),
    ("PROCESSING", "FAILED"),
    ("PROCESSING", "RETRYING"),
    ("PROCESSING", "PENDING"),
    ("PENDING", "CANCELLED"),
    ("PENDING", "FAILED"),
    ("PENDING", "SCHEDULED"),  # put off by an operator
    ("RETRYING", "FAILED"),
    ("RETRYING", "CANCELLED"),
    ("PROCESSING", "CANCELLED"),
    ("SCHEDULED", "PROCESSING"),
    ("SCHEDULED", "FAILED"),
    ("SCHEDULED", "CANCELLED"),
    ("PROCESSING", "SCHEDULED"),
    ("FAILED", "SCHEDULED"),
    ("CANCELLED", "SCHEDULED"),
    ("FAILED", "PENDING"),
    ("CANCELLED", "PENDING"),
}


@pytest.mark.parametrize(("before", "after"), list(product(RequestStatus, repeat=2)))
def test_exactly_the_listed_changes_are_allowed(
    before: RequestStatus, after: RequestStatus
) -> None:
    """Each of the 49 pairs is in FOLLOWS if the design lists it, and not otherwise."""
    assert (after in FOLLOWS[before]) == ((before.value, after.value) in LISTED)


@pytest.mark.parametrize("after", list(RequestStatus))
def test_sources_are_the_statuses_that_it_can_follow(after: RequestStatus) -> None:
    """`sources` returns the reverse of FOLLOWS."""
    assert sources(after) == {before for before, to in LISTED if to == after.value}


def test_every_status_is_in_follows() -> None:
    """No status is missing."""
    assert set(FOLLOWS) == set(RequestStatus)


def test_waiting_statuses_are_those_that_can_be_claimed() -> None:
    """PROCESSING follows these statuses and no other."""
    assert sources(RequestStatus.PROCESSING) == set(WAITING)


def test_terminal_statuses_are_left_only_by_redrive() -> None:
    """Only PENDING and SCHEDULED can follow a terminal status."""
    assert set(RequestStatus) - set(WAITING) - {RequestStatus.PROCESSING} == TERMINAL
    assert all(
        FOLLOWS[status] <= {RequestStatus.PENDING, RequestStatus.SCHEDULED} for status in TERMINAL
    )
