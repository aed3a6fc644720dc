"""Values are converted to attribute values and back, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from properties.strategies import canonical, refused, somewhere, values
from streamer_store import ValidationError
from streamer_store.values import decode, encode, value_size


@given(values)
def test_values_are_read_back(value: Any) -> None:
    """Encoding and decoding give an equal value. Numbers are compared by value."""
    assert canonical(decode(encode(value))) == canonical(value)


@given(values)
def test_encoding_a_decoded_value_changes_nothing(value: Any) -> None:
    """Reading an item and writing it back does not change it."""
    encoded = encode(value)
    assert encode(decode(encoded)) == encoded


@given(values)
def test_every_value_has_a_size(value: Any) -> None:
    """Only empty text and empty bytes have the size 0."""
    size = value_size(encode(value))
    assert size > 0 or value in ("", b"", {""}, {b""})


@given(somewhere(refused))
def test_an_invalid_value_is_refused_with_its_path(value: Any) -> None:
    """At any depth, the error is a ValidationError whose path starts at the top."""
    with pytest.raises(ValidationError) as raised:
        encode(value, "payload")
    assert raised.value.field.startswith("payload")
