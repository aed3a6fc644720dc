"""The whole matrix of states, as the design lists it."""

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
    ("RETRYING", "FAILED"),
    ("RETRYING", "CANCELLED"),
    ("PROCESSING", "CANCELLED"),
    ("FAILED", "PENDING"),
    ("CANCELLED", "PENDING"),
}


@pytest.mark.parametrize(("before", "after"), list(product(RequestStatus, repeat=2)))
def test_exactly_the_listed_moves_are_allowed(before: RequestStatus, after: RequestStatus) -> None:
    """Each of the 36 pairs is allowed if the design lists it, and refused if not."""
    assert (after in FOLLOWS[before]) == ((before.value, after.value) in LISTED)


@pytest.mark.parametrize("after", list(RequestStatus))
def test_sources_are_the_statuses_from_which_one_may_come(after: RequestStatus) -> None:
    """`sources` reads the same table the other way round."""
    assert sources(after) == {before for before, to in LISTED if to == after.value}


def test_every_status_has_its_row() -> None:
    """No status is without a rule."""
    assert set(FOLLOWS) == set(RequestStatus)


def test_waiting_is_what_may_be_claimed() -> None:
    """A claim starts from the waiting statuses and from no other."""
    assert sources(RequestStatus.PROCESSING) == set(WAITING)


def test_terminal_statuses_are_left_only_by_redrive() -> None:
    """From a terminal status nothing leads on but back to PENDING, by an operator."""
    assert set(RequestStatus) - set(WAITING) - {RequestStatus.PROCESSING} == TERMINAL
    assert all(FOLLOWS[status] <= {RequestStatus.PENDING} for status in TERMINAL)
