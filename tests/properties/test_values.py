"""Any value goes through its attribute value, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from properties.strategies import canonical, refused, somewhere, values
from streamer_store import ValidationError
from streamer_store.values import decode, encode, value_size


@given(values)
def test_values_come_back_as_they_went(value: Any) -> None:
    """Whatever is encoded decodes to an equal value; numbers are equal by value."""
    assert canonical(decode(encode(value))) == canonical(value)


@given(values)
def test_what_was_decoded_encodes_the_same(value: Any) -> None:
    """Reading and writing back changes nothing in the table."""
    encoded = encode(value)
    assert encode(decode(encoded)) == encoded


@given(values)
def test_every_value_has_a_size(value: Any) -> None:
    """Sizes are known for all that can be encoded; only empty text and bytes have none."""
    size = value_size(encode(value))
    assert size > 0 or value in ("", b"", {""}, {b""})


@given(somewhere(refused))
def test_what_dynamodb_cannot_hold_is_refused_by_name(value: Any) -> None:
    """However deep it stands, it is a ValidationError whose field begins where we began."""
    with pytest.raises(ValidationError) as raised:
        encode(value, "payload")
    assert raised.value.field.startswith("payload")
