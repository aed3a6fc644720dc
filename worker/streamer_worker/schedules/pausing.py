"""Which schedules are paused (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from streamer_store import Undecodable
from streamer_store.pause import CONTROL_PAUSE, Pause, PauseKind, pauses_of
from streamer_store.values import Item


def pause_in_force(controls: Mapping[str, Item], name: str, now: datetime) -> Pause | None:
    """Return the pause of the schedule of this name if there is one at `now`.

    `controls`: the control rows of the fleet, by id.
    """
    pause = pause_of(pauses_of(controls.get(CONTROL_PAUSE), _ignore), name)
    return None if pause is None or pause.is_over(now) else pause


def pause_of(pauses: list[Pause], name: str) -> Pause | None:
    """Return the pause of the schedule of this name, also one that is over. None: there is none."""
    wanted = (PauseKind.SCHEDULE, name)
    return next((pause for pause in pauses if (pause.kind, pause.name) == wanted), None)


def _ignore(_error: Undecodable) -> None:
    """Leave a broken pause to those who report it: it is in force."""
