"""Which schedules are paused (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from streamer_store.reserved_ids import CONTROL_PREFIX
from streamer_store.times import parse_time
from streamer_store.values import Item

PAUSES: Final = f"{CONTROL_PREFIX}pause"
"""The id of the row of pauses. It has an attribute for each pause, such as `schedule#nightly`."""


def pause_attribute(name: str) -> str:
    """Return the attribute of a schedule's pause."""
    return f"schedule#{name}"


def is_paused(controls: Mapping[str, Item], name: str, now: datetime) -> bool:
    """Return whether the schedule of this name is paused at `now`.

    `controls`: the control rows of the fleet, by id. A pause whose end cannot be read has none.
    """
    pause: Any = controls.get(PAUSES, {}).get(pause_attribute(name))
    if pause is None:
        return False
    try:
        until = parse_time(pause["M"]["Until"]["S"])
    except (KeyError, TypeError, ValueError):
        return True
    return until is None or until > now
