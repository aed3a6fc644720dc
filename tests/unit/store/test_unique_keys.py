"""The id that a unique key gives."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer_store import ValidationError, unique_id

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


def test_the_id_is_as_documented() -> None:
    """Producers in other languages, and later releases, derive the same one."""
    text = b"4:acme,6:report,10:" + "caf\u00e9 \U0001f600".encode() + b","
    expected = base64.b32encode(hashlib.sha256(text).digest()).decode().lower()[:26]
    assert unique_id("report", "caf\u00e9 \U0001f600", tenant_id="acme") == f"unique#{expected}"
    assert unique_id("report", "month-7") == "unique#r4b3hod7keoxss2wunchm5ygir"


@given(st.tuples(names, names, names), st.tuples(names, names, names))
def test_two_keys_have_two_ids(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Wherever one text ends and the next begins."""
    same = unique_id(one[0], one[1], tenant_id=one[2]) == unique_id(
        other[0], other[1], tenant_id=other[2]
    )
    assert same == (one == other)


def test_a_key_may_have_1024_bytes() -> None:
    """One more is refused, and characters count by their bytes."""
    unique_id("report", "\u00e9" * 512)
    with pytest.raises(ValidationError, match="has 1025 bytes"):
        unique_id("report", "\u00e9" * 512 + "a")
