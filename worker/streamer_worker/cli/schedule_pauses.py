"""Pauses of schedules, as they are written."""

from __future__ import annotations

from datetime import datetime

from streamer_store import Stores
from streamer_store.engine import Update
from streamer_store.schema import WORKERS
from streamer_store.times import format_time
from streamer_worker.schedules.pausing import PAUSES, pause_attribute


async def pause_schedule(stores: Stores, name: str, *, by: str, now: datetime) -> None:
    """Pause a schedule, until it is resumed. Replaces a pause that is there."""
    pause = {"M": {"By": {"S": by}, "At": {"S": format_time(now)}}}
    sets = {pause_attribute(name): pause}
    await stores.engine.update(Update(table=WORKERS, key=PAUSES, sets=sets, returning=False))


async def resume_schedule(stores: Stores, name: str) -> None:
    """Delete the pause of a schedule. Succeeds if there is none."""
    removes = (pause_attribute(name),)
    await stores.engine.update(Update(table=WORKERS, key=PAUSES, removes=removes, returning=False))
