"""The writes of requests with a unique key."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import writes
from streamer_store.conditions import Absent, OneOf
from streamer_store.times import epoch
from unit.store.expected_writes import FRESH, HELD, NOW, item

WEEK = 7 * 86_400


@pytest.mark.parametrize(
    ("seen", "conditions"),
    [
        (
            item("COMPLETED"),
            (OneOf("Status", ({"S": "COMPLETED"},)), OneOf("Version", ({"S": "seen"},))),
        ),
        (item("PENDING", None), (OneOf("Status", ({"S": "PENDING"},)), Absent("Version"))),
    ],
)
def test_a_put_over_another_requires_what_was_seen(seen: Any, conditions: Any) -> None:
    """Its Status and its Version, so that no late copy takes effect.

    Proves UNIQUE-1.
    """
    new = item("PENDING", "new")
    put = writes.enqueue_over(seen, new)
    assert (put.item, put.conditions) == (new, conditions)


@pytest.mark.parametrize(
    ("window", "kept_for", "seconds"),
    [
        (None, timedelta(days=1), 86_400),
        (timedelta(hours=1), timedelta(days=1), 86_400),
        (timedelta(days=30), timedelta(days=7), 30 * 86_400 + 1),
        (timedelta(microseconds=1), timedelta(seconds=1), 1),
    ],
)
def test_ttl_of_a_completed_request_is_after_its_window(
    window: timedelta | None, kept_for: timedelta, seconds: int
) -> None:
    """Whatever the setting says, and no earlier than the setting says.

    Proves UNIQUE-1.
    """
    held = replace(HELD, request=replace(HELD.request, unique_for=window))
    update = writes.complete(held, result=None, version=FRESH, now=NOW, kept_for=kept_for)
    assert int(update.sets["TTL"]["N"]) == epoch(NOW) + seconds
