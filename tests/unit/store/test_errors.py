"""The errors of the store: their family, their fields, their words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer_store import errors
from streamer_store.errors import (
    AccessDenied,
    AlreadyExists,
    Cancelled,
    ClaimLost,
    ConcurrentModification,
    InvalidInput,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    StoreError,
    StoreUnavailable,
    TableMissing,
    Undecodable,
    ValidationError,
)
from streamer_store.transitions import RequestStatus

WHERE = {"operation": "claim", "table": "requests", "key": "r1"}
MADE: list[StoreError] = [
    StoreError("no", **WHERE),
    NotFound("no", **WHERE),
    AlreadyExists("no", **WHERE),
    InvalidInput("no", **WHERE),
    ValidationError("action", "no", **WHERE),
    ItemTooLarge("item", "no", size=7, **WHERE),
    RequestNotPending("no", status=RequestStatus.FAILED, **WHERE),
    ConcurrentModification("no", **WHERE),
    ClaimLost("no", status="PENDING", **WHERE),
    Cancelled("no", status="CANCELLED", **WHERE),
    Undecodable("no", **WHERE),
    StoreUnavailable("no", **WHERE),
    AccessDenied("no", **WHERE),
    TableMissing("no", **WHERE),
]
PREDICATES: dict[Callable[[BaseException], bool], set[type[StoreError]]] = {
    errors.is_not_found: {NotFound},
    errors.is_already_exists: {AlreadyExists},
    errors.is_invalid_input: {InvalidInput, ValidationError, ItemTooLarge},
    errors.is_request_not_pending: {RequestNotPending},
    errors.is_concurrent_modification: {ConcurrentModification},
    errors.is_claim_lost: {ClaimLost, Cancelled},
    errors.is_cancelled: {Cancelled},
    errors.is_unavailable: {StoreUnavailable},
}


def kind(error: StoreError) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", MADE, ids=kind)
def test_every_error_says_where(error: StoreError) -> None:
    """Operation, table and key are fields, and stand in the text."""
    assert (error.operation, error.table, error.key) == ("claim", "requests", "r1")
    assert str(error) == f"{error.message} (operation=claim, table=requests, key=r1)"


def test_no_error_class_is_untested() -> None:
    """A class added to the file is added to the list above."""
    found = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, StoreError)
    }
    assert {type(error) for error in MADE} == found


def test_what_is_not_known_is_left_out() -> None:
    """An error without a place is its message; one with a key names only that."""
    assert str(StoreError("no luck")) == "no luck"
    assert str(StoreError("no luck", key="r1")) == "no luck (key=r1)"


def test_a_validation_error_names_its_field() -> None:
    """The field stands in the text and as an attribute."""
    error = ValidationError("progress", "must not be red")
    assert error.field == "progress"
    assert str(error) == "progress: must not be red"


def test_an_item_too_large_knows_its_size() -> None:
    """The size is in bytes, or None where DynamoDB does not say."""
    assert ItemTooLarge("item", "large", size=7).size == 7
    assert ItemTooLarge("item", "large").size is None


def test_a_lost_claim_knows_the_status_found() -> None:
    """None means that the request is gone."""
    assert ClaimLost("lost", status="PENDING").status == "PENDING"
    assert ClaimLost("lost").status is None


def test_a_request_not_pending_knows_its_status() -> None:
    """The status that stood in the way is a field."""
    error = RequestNotPending("no", status=RequestStatus.FAILED)
    assert error.status is RequestStatus.FAILED


def test_an_undecodable_item_gives_its_reason() -> None:
    """The reason is a field and the text says what it is about."""
    error = Undecodable("Status: wrong")
    assert error.reason == "Status: wrong"
    assert str(error) == "item cannot be decoded: Status: wrong"


@pytest.mark.parametrize("error", MADE, ids=kind)
@pytest.mark.parametrize("predicate", PREDICATES, ids=lambda predicate: predicate.__name__)
def test_predicates_know_exactly_their_kinds(
    predicate: Callable[[BaseException], bool], error: StoreError
) -> None:
    """Each predicate is true for its own kinds and false for all others."""
    assert predicate(error) == (type(error) in PREDICATES[predicate])


@pytest.mark.parametrize("predicate", PREDICATES, ids=lambda predicate: predicate.__name__)
def test_predicates_know_no_foreign_errors(predicate: Callable[[BaseException], bool]) -> None:
    """Python's own errors belong to none of the kinds."""
    assert not predicate(LookupError("no"))
