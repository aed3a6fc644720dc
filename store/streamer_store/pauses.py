"""The store of pauses over any engine."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from streamer_store.clock import Clock
from streamer_store.conditions import equals
from streamer_store.decoding import Report
from streamer_store.engine import ConditionFailed, Engine, Update
from streamer_store.errors import ConcurrentModification, Undecodable, ValidationError
from streamer_store.pause import (
    CONTROL_PAUSE,
    MAX_PAUSES,
    Pause,
    pause_value,
    pauses_of,
    with_probe,
)
from streamer_store.schema import WORKERS
from streamer_store.values import AttributeValue, Item

# How often a write starts again because another one came first.
_TRIES: Final = 10


class PauseTable:
    """Implements Pauses. `report`: called with the error of each pause that cannot be decoded."""

    def __init__(self, *, engine: Engine, clock: Clock, report: Report) -> None:
        self._engine = engine
        self._clock = clock
        self._report = report

    async def read_all(self) -> list[Pause]:
        return self._pauses_of(await self._engine.get(WORKERS, CONTROL_PAUSE))

    async def start(self, pause: Pause) -> Pause | None:
        return (await self._write(pause, keep_longer=False))[1]

    async def extend(self, pause: Pause) -> bool:
        return (await self._write(pause, keep_longer=True))[0]

    async def end(self, pause: Pause) -> bool:
        try:
            await self._engine.update(
                Update(
                    table=WORKERS,
                    key=CONTROL_PAUSE,
                    removes=(pause.key,),
                    # PAUSE-2: a late copy finds another value, so it ends no newer pause.
                    conditions=(equals(pause.key, pause.stored or pause_value(pause)),),
                    returning=False,
                )
            )
        except ConditionFailed as failed:
            return pause.key not in (failed.old or {})
        return True

    async def move_probe(self, pause: Pause, probe_at: datetime, *, by: str) -> Pause | None:
        moved = with_probe(pause, probe_at, by)
        _, failed = await self._set(moved, moved.stored, seen=pause.stored or pause_value(pause))
        return None if failed else moved

    async def _write(self, pause: Pause, *, keep_longer: bool) -> tuple[bool, Pause | None]:
        """Write the pause under what is stored. Return whether it was written, and the old one.

        `keep_longer`: do not replace a pause that ends at the same time or later.
        """
        item = await self._engine.get(WORKERS, CONTROL_PAUSE)
        for _ in range(_TRIES):
            pauses = self._pauses_of(item)
            old = next((each for each in pauses if each.key == pause.key), None)
            if keep_longer and old is not None and not self._ends_later(pause, old):
                return False, old
            self._require_room(pause, pauses)
            item, failed = await self._set(
                pause, pause_value(pause), seen=None if old is None else old.stored
            )
            if not failed:
                return True, old
        raise ConcurrentModification(
            f"the pause {pause.key} is changed all the time",
            operation="pause",
            table=self._engine.table_name(WORKERS),
            key=CONTROL_PAUSE,
        )

    async def _set(
        self, pause: Pause, value: AttributeValue | None, *, seen: AttributeValue | None
    ) -> tuple[Item | None, bool]:
        """Set the pause's attribute if it is as `seen`. Return the old item and whether it failed.

        The client repeats a call whose answer was lost. The value is then this call's own.
        """
        value = value or pause_value(pause)
        try:
            await self._engine.update(
                Update(
                    table=WORKERS,
                    key=CONTROL_PAUSE,
                    sets={pause.key: value},
                    conditions=(equals(pause.key, seen),),  # PAUSE-2
                    returning=False,
                )
            )
        except ConditionFailed as failed:
            return failed.old, (failed.old or {}).get(pause.key) != value
        return None, False

    def _ends_later(self, pause: Pause, old: Pause) -> bool:
        if old.is_over(self._clock.now()):
            return True
        return old.until is not None and (pause.until is None or pause.until > old.until)

    def _require_room(self, pause: Pause, pauses: list[Pause]) -> None:
        now = self._clock.now()
        others = [each for each in pauses if each.key != pause.key and not each.is_over(now)]
        if len(others) >= MAX_PAUSES:
            raise ValidationError(
                "pauses", f"there are {len(others)} pauses, the limit is {MAX_PAUSES}"
            )

    def _pauses_of(self, item: Item | None) -> list[Pause]:
        return pauses_of(item, self._report_entry)

    def _report_entry(self, error: Undecodable) -> None:
        error.table = self._engine.table_name(WORKERS)
        self._report(error)
