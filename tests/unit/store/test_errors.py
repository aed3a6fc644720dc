"""The errors of the store: classes, fields and texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer_store import errors
from streamer_store.bulk_results import BulkResult, BulkSummary, SomeRefused
from streamer_store.errors import (
    AccessDenied,
    AlreadyExists,
    Cancelled,
    ClaimLost,
    ConcurrentModification,
    InvalidExport,
    InvalidInput,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    StoreError,
    StoreUnavailable,
    TableMissing,
    TargetFailed,
    Undecodable,
    ValidationError,
    WorkersRunning,
    leaf_exceptions,
    ungrouped,
)
from streamer_store.transitions import RequestStatus

LOCATION = {"operation": "claim", "table": "requests", "key": "r1"}
ERRORS: list[StoreError] = [
    StoreError("no", **LOCATION),
    NotFound("no", **LOCATION),
    AlreadyExists("no", **LOCATION),
    InvalidInput("no", **LOCATION),
    ValidationError("action", "no", **LOCATION),
    ItemTooLarge("item", "no", size=7, **LOCATION),
    RequestNotPending("no", status=RequestStatus.FAILED, **LOCATION),
    ConcurrentModification("no", **LOCATION),
    ClaimLost("no", status="PENDING", **LOCATION),
    Cancelled("no", status="CANCELLED", **LOCATION),
    Undecodable("no", **LOCATION),
    StoreUnavailable("no", **LOCATION),
    AccessDenied("no", **LOCATION),
    TableMissing("no", **LOCATION),
    InvalidExport("no", target="e", file="manifest.json", line=2, **LOCATION),
    TargetFailed("no", **LOCATION),
    WorkersRunning("no", **LOCATION),
    SomeRefused(
        BulkSummary(
            done=1,
            refused=1,
            results=[BulkResult(position=0, key="r1", error=NotFound("no", **LOCATION))],
        ),
        operation="claim",
    ),
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


def class_name(error: StoreError) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", ERRORS, ids=class_name)
def test_every_error_has_its_location(error: StoreError) -> None:
    """Operation, table and key are fields, and are in the text."""
    assert (error.operation, error.table, error.key) == ("claim", "requests", "r1")
    assert str(error) == f"{error.message} (operation=claim, table=requests, key=r1)"


def test_no_error_class_is_untested() -> None:
    """A class that is added to the module must be added to the list above."""
    classes = {
        member
        for member in vars(errors).values()
        if isinstance(member, type) and issubclass(member, StoreError)
    }
    assert {type(error) for error in ERRORS} == classes | {SomeRefused}


def test_an_unknown_location_is_left_out_of_the_text() -> None:
    """The text of an error has only those parts of its location that are known."""
    assert str(StoreError("no luck")) == "no luck"
    assert str(StoreError("no luck", key="r1")) == "no luck (key=r1)"


def test_a_validation_error_names_its_field() -> None:
    """The text begins with the name of the field."""
    assert str(ValidationError("progress", "must not be red")) == "progress: must not be red"


def test_an_undecodable_error_has_its_reason_in_the_text() -> None:
    """The text also says what it is about."""
    assert str(Undecodable("Status: wrong")) == "item cannot be decoded: Status: wrong"


@pytest.mark.parametrize("error", ERRORS, ids=class_name)
@pytest.mark.parametrize("predicate", PREDICATES, ids=lambda predicate: predicate.__name__)
def test_each_predicate_is_true_only_for_its_classes(
    predicate: Callable[[BaseException], bool], error: StoreError
) -> None:
    """Each predicate is true for its own classes and false for all others."""
    assert predicate(error) == (type(error) in PREDICATES[predicate])


@pytest.mark.parametrize("predicate", PREDICATES, ids=lambda predicate: predicate.__name__)
def test_predicates_are_false_for_other_exceptions(
    predicate: Callable[[BaseException], bool],
) -> None:
    """Exceptions of Python belong to none of the classes."""
    assert not predicate(LookupError("no"))


def test_the_first_of_several_store_errors_is_raised() -> None:
    """Groups may be nested. The group is the cause."""
    first, second = NotFound("first"), StoreUnavailable("second")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [first]), second])
    with pytest.raises(NotFound) as raised, ungrouped():
        raise group
    assert raised.value is first
    assert raised.value.__cause__ is group


def test_a_group_with_another_error_is_raised_unchanged() -> None:
    """Its errors have different reasons. None of them speaks for the others."""
    group = ExceptionGroup("both", [NotFound("first"), ValueError("a mistake")])
    with pytest.raises(ExceptionGroup) as raised, ungrouped():
        raise group
    assert raised.value is group
    with pytest.raises(NotFound), ungrouped(ValueError):
        raise group


def test_the_leaves_of_a_group_are_in_order_at_any_depth() -> None:
    """A group may be nested deeper than Python recurses."""
    leaves: list[Exception] = [ValueError("1"), KeyError("2"), ValueError("3")]
    group = ExceptionGroup("outer", [ExceptionGroup("inner", leaves[:2]), leaves[2]])
    for _ in range(5000):
        group = ExceptionGroup("deep", [group])
    assert leaf_exceptions(group) == leaves
    assert leaf_exceptions(leaves[0]) == leaves[:1]
