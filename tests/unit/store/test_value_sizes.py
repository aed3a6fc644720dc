"""Sizes of attribute values, as DynamoDB counts them."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_store.values import item_size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": ""}, 0),
        ({"S": "abc"}, 3),
        ({"S": "ü€"}, 5),
        ({"B": b"abc"}, 3),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"M": {}}, 3),
        ({"L": []}, 3),
        ({"M": {"ab": {"S": "c"}}}, 7),
        ({"L": [{"S": "a"}, {"NULL": True}]}, 7),
        ({"SS": ["a", "bc"]}, 3),
        ({"BS": [b"a", b"bc"]}, 3),
        ({"NS": ["1", "-1"]}, 5),
        ({"N": "0"}, 1),
        ({"N": "7"}, 2),
        ({"N": "-7"}, 3),
        ({"N": "1" * 38}, 20),
        ({"N": "1" * 29}, 16),
        ({"N": "9" * 38}, 20),
    ],
)
def test_sizes_count_names_and_contents(value: Any, size: int) -> None:
    """The expected sizes are those of DynamoDB Local (see test_item_size)."""
    assert item_size({"ab": value}) == 2 + size
