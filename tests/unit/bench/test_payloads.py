from __future__ import annotations

import json

import pytest

from bench.payloads import payload


@pytest.mark.parametrize("size", [300, 9_500])
def test_a_payload_has_the_given_size_as_json(size: int) -> None:
    assert len(json.dumps(payload(size))) == size


def test_a_payload_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 190 bytes, not 10"):
        payload(10)
