"""`Fuse`, and `pause_after_failures` of a handler."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from streamer_worker import Context, Fuse, HandlerGroup, handler


async def work(_payload: dict[str, Any], _ctx: Context) -> None:
    """A handler's function."""


def test_a_number_is_a_fuse_with_ten_minutes() -> None:
    """For the function `handler` and for groups. Without it there is no fuse."""
    assert handler("a", pause_after_failures=20)(work).fuse == Fuse(
        failures=20, within=timedelta(minutes=10), probe_every=timedelta(seconds=30)
    )
    own = Fuse(failures=3, within=timedelta(seconds=5))
    assert HandlerGroup[None]().handler("a", pause_after_failures=own)(work).fuse is own
    assert handler("a")(work).fuse is None


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("20", TypeError, "of action 'a' must be a whole number or a Fuse, not '20'"),
        (True, TypeError, "of action 'a' must be a whole number or a Fuse, not True"),
        (1.5, TypeError, "of action 'a' must be a whole number or a Fuse, not 1.5"),
        (0, ValueError, "of action 'a': failures of a Fuse must be from 1 to 10000, not 0"),
    ],
)
def test_a_wrong_number_is_refused(value: Any, error: type[Exception], text: str) -> None:
    """When the handler is defined, with its action."""
    with pytest.raises(error, match=text):
        handler("a", pause_after_failures=value)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"failures": "3"}, TypeError, "failures of a Fuse must be a whole number, not '3'"),
        ({"failures": 10_001}, ValueError, "from 1 to 10000, not 10001"),
        ({"within": 60}, TypeError, "within of a Fuse must be a timedelta, not 60"),
        ({"within": timedelta()}, ValueError, "within of a Fuse must be above 0, at most a day"),
        ({"within": timedelta(days=2)}, ValueError, "within of a Fuse must be above 0"),
        ({"probe_every": timedelta(seconds=0.5)}, ValueError, "must be from 1 s to 1 h"),
        ({"probe_every": timedelta(hours=2)}, ValueError, "must be from 1 s to 1 h"),
    ],
)
def test_a_wrong_fuse_is_refused(fields: dict[str, Any], error: type[Exception], text: str) -> None:
    """The error says what is allowed."""
    with pytest.raises(error, match=text):
        Fuse(**({"failures": 3} | fields))
