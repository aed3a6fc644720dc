"""Where time and chance come from."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime

from streamer_store import SystemClock
from streamer_store.clock import new_id


def test_the_wall_clock_is_in_utc() -> None:
    """What it gives lies between two looks at the host's clock, and bears the zone."""
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert before <= now <= datetime.now(UTC)


def test_the_steady_clock_never_goes_back() -> None:
    """Later looks give no smaller number."""
    clock = SystemClock()
    looks = [clock.steady() for _ in range(100)]
    assert looks == sorted(looks)


def test_ids_are_random_uuids_drawn_from_what_is_handed_in() -> None:
    """The same seed gives the same id, the next draw another one."""
    rng = random.Random(1)
    first, second = new_id(rng), new_id(rng)
    assert uuid.UUID(first).version == 4
    assert first == new_id(random.Random(1))
    assert first != second
