"""Conversion of values to attribute values, and their limits."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, Rounded, localcontext
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer_store import ValidationError
from streamer_store.values import (
    MAX_DEPTH,
    MAX_KEY_BYTES,
    decode,
    encode,
    encode_document,
    item_size,
)

LARGEST = Decimal("9." + "9" * 37 + "E125")


class Measured(float):
    """A float with a repr of its own, as numpy's are."""

    def __repr__(self) -> str:
        return f"Measured({float(self)})"


def nested_maps(levels: int, inside: Any, key: str = "a") -> Any:
    for _ in range(levels):
        inside = {key: inside}
    return inside


def nested_lists(levels: int, inside: Any) -> Any:
    for _ in range(levels):
        inside = [inside]
    return inside


NUMBERS = st.one_of(
    st.integers(min_value=-(10**38) + 1, max_value=10**38 - 1),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-(2**53), max_value=2**53).filter(
        lambda number: number == 0 or abs(number) > 1e-100
    ),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, st.binary())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(TEXT.filter(bool), inner, max_size=4)
    ),
    max_leaves=15,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {"NULL": True}),
        (True, {"BOOL": True}),
        (False, {"BOOL": False}),
        ("", {"S": ""}),
        ("größer", {"S": "größer"}),
        (0, {"N": "0"}),
        (-12, {"N": "-12"}),
        (1.5, {"N": "1.5"}),
        (-0.0, {"N": "0"}),
        (0.1, {"N": "0.1"}),
        (Decimal("2.50"), {"N": "2.5"}),
        (Measured(0.25), {"N": "0.25"}),
        (b"", {"B": b""}),
        (b"\x00\xff", {"B": b"\x00\xff"}),
        (bytearray(b"ab"), {"B": b"ab"}),
        ([], {"L": []}),
        ([1, "a"], {"L": [{"N": "1"}, {"S": "a"}]}),
        ((None,), {"L": [{"NULL": True}]}),
        ({}, {"M": {}}),
        ({"a": {"b": True}}, {"M": {"a": {"M": {"b": {"BOOL": True}}}}}),
        (MappingProxyType({"a": 1}), {"M": {"a": {"N": "1"}}}),
        ({"b", "a"}, {"SS": ["a", "b"]}),
        (frozenset({2, 1.5}), {"NS": ["1.5", "2"]}),
        ({b"b", b"a"}, {"BS": [b"a", b"b"]}),
    ],
)
def test_every_kind_of_value_has_its_attribute_type(value: Any, expected: Any) -> None:
    """Every Python type becomes DynamoDB's type for it."""
    assert encode(value) == expected


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (float("nan"), "it", "nan is not a number"),
        (float("inf"), "it", "inf is not a number"),
        (float("-inf"), "it", "-inf is not a number"),
        (Decimal("NaN"), "it", "NaN is not a number"),
        (Decimal("sNaN"), "it", "sNaN is not a number"),
        (Decimal("-Infinity"), "it", "-Infinity is not a number"),
        (10**38 + 1, "it", "more than 38 digits"),
        (Decimal("0." + "1" * 39), "it", "more than 38 digits"),
        (10**126, "it", "larger than 9.99E+125"),
        (-(10**126), "it", "larger than 9.99E+125"),
        pytest.param(10**5000, "it", "larger than 9.99E+125", id="10**5000"),
        (Decimal("1E126"), "it", "outside 1E-130 to 9.99E+125"),
        (Decimal("1E-131"), "it", "outside 1E-130 to 9.99E+125"),
        (Decimal("-1E-131"), "it", "outside 1E-130 to 9.99E+125"),
        (1e300, "it", "outside 1E-130 to 9.99E+125"),
        (5e-324, "it", "outside 1E-130 to 9.99E+125"),
        ("\ud800", "it", "lone surrogate"),
        ({"a": {1: "x"}}, "it.a", "key 1 is not text"),
        ({"a": {None: "x"}}, "it.a", "key None is not text"),
        ({"a": {"": "x"}}, "it.a", "a key is empty"),
        ({"\udfff": "x"}, "it", "lone surrogate"),
        ({"\udfff": object()}, "it", "lone surrogate"),
        (set(), "it", "empty sets"),
        ([frozenset()], "it[0]", "empty sets"),
        ({"a", 1}, "it", "only text, only numbers or only bytes"),
        ({"a", b"a"}, "it", "only text, only numbers or only bytes"),
        ({2, True}, "it", "only text, only numbers or only bytes"),
        ({None}, "it", "only text, only numbers or only bytes"),
        ({("a",)}, "it", "only text, only numbers or only bytes"),
        ({"ok", "\ud800"}, "it", "lone surrogate"),
        ({1.5, float("nan")}, "it", "nan is not a number"),
        (datetime(2026, 1, 1, tzinfo=UTC), "it", "datetime cannot be stored"),
        (object(), "it", "object cannot be stored"),
        (1j, "it", "complex cannot be stored"),
        (range(3), "it", "range cannot be stored"),
        ({"a": [0, {"b": object()}]}, "it.a[1].b", "object cannot be stored"),
    ],
)
def test_an_invalid_value_is_refused_with_its_path(value: Any, path: str, reason: str) -> None:
    """The error names the path inside the value, and what is wrong."""
    with pytest.raises(ValidationError, match=reason.replace("+", r"\+")) as caught:
        encode(value, "it")
    assert caught.value.field == path


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(10**38 - 1, id="38 digits"),
        pytest.param(-(10**38) + 1, id="38 digits, negative"),
        pytest.param(10**125, id="1E125"),
        pytest.param(int(LARGEST), id="largest int"),
        pytest.param(LARGEST, id="largest"),
        pytest.param(LARGEST.copy_negate(), id="largest negative"),
        pytest.param(Decimal("1E-130"), id="smallest"),
        pytest.param(Decimal("-1E-130"), id="smallest negative"),
    ],
)
def test_numbers_at_the_limits_are_stored_exactly(number: Any) -> None:
    """Numbers with 38 digits, and of the largest and smallest magnitude, are read back."""
    decoded = decode(encode(number))
    assert Decimal(repr(decoded)) == number


def test_a_callers_decimal_context_changes_nothing() -> None:
    """A handler may have set another precision and other traps."""
    with localcontext(Context(prec=3, traps=[Inexact, Rounded])):
        number = Decimal("1.23456")
        assert encode(number) == {"N": "1.23456"}
        assert decode({"N": "1.23456"}) == 1.23456
        assert item_size({"ab": {"N": "1.23456"}}) == 7


def test_trailing_zeros_do_not_count_as_digits() -> None:
    """A long round number has few significant digits, and can be stored."""
    assert decode(encode(10**100)) == 10**100


def test_numbers_that_are_equal_in_the_table_are_one_member_of_a_set() -> None:
    """DynamoDB refuses a set with equal numbers, such as a float and a Decimal."""
    assert encode({0.1, Decimal("0.1")}) == {"NS": ["0.1"]}


@pytest.mark.parametrize("nested", [nested_maps, nested_lists])
@pytest.mark.parametrize("inside", [1, "text", {"a", "b"}])
def test_a_scalar_inside_31_containers_is_the_deepest(nested: Any, inside: Any) -> None:
    """DynamoDB stores 32 levels, and refuses one more."""
    encode(nested(MAX_DEPTH - 1, inside))
    with pytest.raises(ValidationError, match="nested deeper than 32 levels"):
        encode(nested(MAX_DEPTH, inside))


@pytest.mark.parametrize("nested", [nested_maps, nested_lists])
@pytest.mark.parametrize("inside", [{}, [], ()])
def test_an_empty_container_counts_as_two_levels(nested: Any, inside: Any) -> None:
    """DynamoDB stores an empty container inside 30 others, and refuses it inside 31."""
    encode(nested(MAX_DEPTH - 2, inside))
    with pytest.raises(ValidationError, match="nested deeper than 32 levels"):
        encode(nested(MAX_DEPTH - 1, inside))


@pytest.mark.parametrize("nested", [nested_maps, nested_lists])
def test_very_deep_nesting_is_a_validation_error(nested: Any) -> None:
    """Ten thousand levels raise ValidationError, not RecursionError."""
    with pytest.raises(ValidationError, match="nested deeper"):
        encode(nested(10_000, 1))


def test_a_value_that_contains_itself_is_a_validation_error() -> None:
    """A cycle is refused as too deep nesting."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValidationError, match="nested deeper"):
        encode(endless)


LONG = "k" * 1000


@pytest.mark.parametrize(
    "value",
    [
        nested_maps(MAX_DEPTH, 1, key=LONG),
        {LONG: object()},
        {LONG: {LONG: float("nan")}},
        {LONG: {"": 1}},
        {LONG: {1: 1}},
        {LONG: [set()]},
        {LONG: {LONG: "\ud800"}},
        {LONG * 100: 1},
        {"a": {("x" * 100_000,): 1}},
    ],
    ids=range(9),
)
def test_an_error_with_long_keys_is_short(value: Any) -> None:
    """The path in the error is cut."""
    with pytest.raises(ValidationError) as caught:
        encode(value)
    assert len(caught.value.field) <= 200
    assert len(str(caught.value)) < 300


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("key", [10**5000, Unprintable()], ids=["long int", "raises"])
def test_a_key_without_a_repr_is_named_by_its_type(key: Any) -> None:
    """The error is a ValidationError although the repr of the key fails."""
    with pytest.raises(ValidationError, match=f"key of type {type(key).__name__} is not text"):
        encode({key: 1})


@pytest.mark.parametrize("key", ["k" * MAX_KEY_BYTES, "é" * (MAX_KEY_BYTES // 2)])
def test_a_key_has_a_maximum_length(key: str) -> None:
    """The length is measured in UTF-8 bytes."""
    assert encode({"a": {key: 1}}) == {"M": {"a": {"M": {key: {"N": "1"}}}}}
    with pytest.raises(ValidationError, match="a key is longer than 65,535 bytes") as caught:
        encode({"a": {key + key[0]: 1}})
    assert caught.value.field.startswith(f"value.a.{key[:100]}")


@pytest.mark.parametrize("value", [[1], "text", 5, {"a"}])
def test_a_document_must_be_a_mapping(value: Any) -> None:
    """Payloads, results and details are maps, and the error names the field."""
    with pytest.raises(ValidationError, match="must be a mapping") as caught:
        encode_document(value, "payload")
    assert caught.value.field == "payload"


def test_a_document_is_a_map() -> None:
    """A mapping becomes an attribute value of type M."""
    assert encode_document({"a": 1}, "payload") == {"M": {"a": {"N": "1"}}}


@settings(derandomize=True, deadline=None)
@given(VALUES)
def test_stored_values_are_read_back(value: Any) -> None:
    """JSON-like values and bytes are read as they were written."""
    assert decode(encode(value)) == value


@settings(derandomize=True, deadline=None)
@given(st.one_of(st.frozensets(TEXT, min_size=1), st.frozensets(NUMBERS, min_size=1)))
def test_stored_sets_are_read_back(value: Any) -> None:
    """Sets of text and of numbers are read as they were written."""
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("3", 3),
        ("3.0", 3),
        ("1E+3", 1000),
        ("0.5", 0.5),
        ("0.1", 0.1),
        ("0.12345678901234567890", Decimal("0.12345678901234567890")),
    ],
)
def test_numbers_are_read_as_the_plainest_exact_type(number: str, expected: Any) -> None:
    """A whole number is an int, another a float where that is exact, else a Decimal."""
    decoded = decode({"N": number})
    assert decoded == expected
    assert type(decoded) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"), [({"BS": [b"a", b"b"]}, {b"a", b"b"}), ({"NS": ["1", "2.5"]}, {1, 2.5})]
)
def test_sets_of_other_writers_are_read(value: Any, expected: Any) -> None:
    """Sets of bytes and of numbers are read as Python sets."""
    assert decode(value) == expected


@pytest.mark.parametrize("value", [{}, {"X": "?"}, {"S": 5}, {"N": "NaN"}, {"N": "Infinity"}])
def test_unknown_attribute_values_are_refused(value: Any) -> None:
    """An attribute value of no known type raises ValueError."""
    with pytest.raises(ValueError, match=r"unknown attribute type|not a number"):
        decode(value)
