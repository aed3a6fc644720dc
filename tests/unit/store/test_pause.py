"""The record of a pause."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import Pause, PauseKind, ValidationError
from support import START

PAUSE = Pause(kind=PauseKind.ACTION, name="report", by="ann@desk", at=START)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name: must name the action"),
        ({"kind": PauseKind.ALL}, "name: must be empty"),
        ({"kind": "region"}, "kind: must be a PauseKind"),
        ({"name": "x" * 256}, "name: has 256 bytes, the limit is 255"),
        ({"name": "\ud800"}, "name: has half a surrogate pair, which is no text"),
        ({"reason": "ß" * 251}, "reason: has 502 bytes, the limit is 500"),
        ({"by": ""}, "by: must not be empty"),
        ({"until": START.replace(tzinfo=None)}, "until: must be a datetime with a time zone"),
    ],
)
def test_a_pause_that_cannot_be_stored_is_refused(change: Any, message: str) -> None:
    """The error names the field, what is wrong and what is allowed."""
    with pytest.raises(ValidationError, match=message):
        replace(PAUSE, **change)


@pytest.mark.parametrize(
    ("kind", "name", "covered"),
    [
        (PauseKind.ALL, "", {"ab", "xb", "ay", "--"}),
        (PauseKind.ACTION, "a", {"ab", "ay"}),
        (PauseKind.HOLD, "a", {"ab", "ay"}),
        (PauseKind.FUSE, "a", {"ab", "ay"}),
        (PauseKind.TENANT, "b", {"ab", "xb"}),
        (PauseKind.SCHEDULE, "a", set()),
    ],
)
def test_what_a_pause_holds_back(kind: PauseKind, name: str, covered: set[str]) -> None:
    """A pause of everything holds back all, the others what bears their name."""
    pause = replace(PAUSE, kind=kind, name=name)
    requests = {"ab": ("a", "b"), "xb": ("x", "b"), "ay": ("a", "y"), "--": (None, None)}
    assert {key for key, names in requests.items() if pause.covers(*names)} == covered


def test_a_pause_is_over_at_its_end() -> None:
    """A pause without an end is never over."""
    ends = replace(PAUSE, until=START)
    assert ends.is_over(START)
    assert not ends.is_over(START - timedelta(microseconds=1))
    assert not PAUSE.is_over(START)
