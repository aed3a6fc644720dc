"""Which schedules are paused (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from streamer_store import Undecodable
from streamer_store.pause import CONTROL_PAUSE, Pause, PauseKind, pauses_of
from streamer_store.values import Item


def is_paused(controls: Mapping[str, Item], name: str, now: datetime) -> bool:
    """Return whether the schedule of this name is paused at `now`.

    `controls`: the control rows of the fleet, by id.
    """
    pause = pause_of(pauses_of(controls.get(CONTROL_PAUSE), _ignore), name)
    return pause is not None and not pause.is_over(now)


def pause_of(pauses: list[Pause], name: str) -> Pause | None:
    """Return the pause of the schedule of this name, also one that is over. None: there is none."""
    wanted = (PauseKind.SCHEDULE, name)
    return next((pause for pause in pauses if (pause.kind, pause.name) == wanted), None)


def _ignore(_error: Undecodable) -> None:
    """Leave a broken pause to those who report it: it is in force."""
