"""Strategies for values that a payload may contain, and for values that it may not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_DIGITS = 10**38 - 1
_SURROGATES = "\ud800\udfff"


def canonical(value: Any) -> Any:
    """Return a form of `value` in which values are equal if they are equal to DynamoDB."""
    match value:
        case None | bool() | str():
            return type(value).__name__, value
        case int() | Decimal():
            return Decimal(value)
        case float():
            return Decimal(repr(value))
        case bytes() | bytearray():
            return bytes(value)
        case Mapping():
            return {key: canonical(entry) for key, entry in value.items()}
        case list() | tuple():
            return [canonical(element) for element in value]
        case AbstractSet():
            return frozenset(canonical(member) for member in value)
    return value


def _fits(number: Decimal) -> bool:
    return not number or Decimal("1E-130") <= abs(number) <= Decimal("9.9E+125")


texts = st.text(max_size=20)
keys = st.text(min_size=1, max_size=10)
numbers: SearchStrategy[Any] = st.one_of(
    st.integers(-_DIGITS, _DIGITS),
    st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda number: _fits(Decimal(repr(number)))
    ),
    st.builds(
        lambda digits, exponent: Decimal(digits).scaleb(exponent),
        st.integers(-(10**28), 10**28),
        st.integers(-100, 90),
    ),
)
blobs = st.binary(max_size=20)
sets: SearchStrategy[Any] = st.one_of(
    st.sets(numbers, min_size=1, max_size=5),
    st.sets(texts, min_size=1, max_size=5),
    st.sets(blobs, min_size=1, max_size=5),
)
leaves: SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), numbers, texts, blobs, st.builds(bytearray, blobs), sets
)
values: SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
    ),
    max_leaves=15,
)
payloads: SearchStrategy[dict[str, Any]] = st.dictionaries(keys, values, max_size=5)


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if levels % 2 else {"a": value}
    return value


refused: SearchStrategy[Any] = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("sNaN")]),
    st.sampled_from([Decimal("1E+126"), Decimal("1E-131"), Decimal("1E-99999999")]),
    st.integers(min_value=10**126),
    st.integers(10**38, 10**40).map(lambda number: number * 10 + 1),
    st.floats(min_value=1e126, allow_infinity=False),
    st.just(set()),
    st.just(frozenset({1, "a"})),
    st.just({True}),
    st.just({None}),
    st.builds(object),
    st.complex_numbers(),
    st.datetimes(),
    st.text(alphabet=_SURROGATES, min_size=1, max_size=3),
    st.dictionaries(st.text(alphabet=_SURROGATES, min_size=1), st.integers(), min_size=1),
    st.dictionaries(st.one_of(st.just(""), st.integers(), st.binary()), texts, min_size=1),
    st.integers(32, 2000).map(_nested),
)
"""Values that are refused, at any depth."""


def somewhere(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Draw values that contain a value of `inner` at any depth."""
    return st.recursive(
        inner,
        lambda deeper: st.one_of(
            st.tuples(values, deeper).map(list),
            st.builds(
                lambda other, key, inner_value: {**other, key: inner_value}, payloads, keys, deeper
            ),
        ),
        max_leaves=1,
    )


zones: SearchStrategy[Any] = st.one_of(
    st.just(UTC),
    st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
times: SearchStrategy[datetime] = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001  the zone is drawn
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=zones,
)
