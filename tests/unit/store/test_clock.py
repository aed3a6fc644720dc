"""The sources of time and of ids."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime

from streamer_store import SystemClock
from streamer_store.clock import new_id


def test_the_wall_clock_is_in_utc() -> None:
    """It returns the host's time, with the time zone UTC."""
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert before <= now <= datetime.now(UTC)


def test_the_steady_clock_never_goes_back() -> None:
    """Later readings are never smaller."""
    clock = SystemClock()
    readings = [clock.steady() for _ in range(100)]
    assert readings == sorted(readings)


def test_ids_are_random_uuids_from_the_generator() -> None:
    """The same seed gives the same id, and the next id is different."""
    rng = random.Random(1)
    first, second = new_id(rng), new_id(rng)
    assert uuid.UUID(first).version == 4
    assert first == new_id(random.Random(1))
    assert first != second
