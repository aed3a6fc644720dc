"""What this worker knows of the pauses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final

from streamer_store import Pause, PauseKind, Undecodable
from streamer_store.pause import OF_ACTIONS, key_of, pauses_of
from streamer_store.schema import WORKERS
from streamer_store.values import Item
from streamer_worker.events import ItemUndecodable, PauseEnded, PauseStarted
from streamer_worker.runtime import Runtime

_CHANGED: Final = object()


class KnownPauses:
    """The pauses as they were read last, and those that this worker has written since.

    Event loop's thread only. All incarnations of a worker share it. PAUSE-1: a read that fails
    changes nothing, so what was paused stays paused, and a read that began before this worker's own
    write ended does not undo that. A pause that is over by this worker's clock holds nothing back,
    although it is stored until the leader deletes it.
    """

    def __init__(self, *, runtime: Runtime) -> None:
        self._events = runtime.events
        self._clock = runtime.clock
        # The row as it was read. _CHANGED: what is known is no longer what was read.
        self._item: Item | object | None = _CHANGED
        self._stored: dict[str, Pause] = {}
        # What this worker has written by key, None if it ended the pause, and when it had done so.
        self._written: dict[str, tuple[Pause | None, float]] = {}
        self._of_action: dict[str, list[Pause]] = {}
        self._of_tenant: dict[str, list[Pause]] = {}
        self._of_all: list[Pause] = []
        self._in_force: dict[str, Pause] = {}
        self.version = 0
        """A number that grows whenever what is paused may have changed."""

    def on_row(self, item: Item | None, *, began: float) -> None:
        """Replace what is known by the row of pauses as it was read. None: there is no row.

        `began`: when the read began, on the steady clock.
        """
        self._written = {key: own for key, own in self._written.items() if own[1] >= began}
        if item == self._item:
            self._announce()  # some may be over now
            return
        pauses = {pause.key: pause for pause in pauses_of(item, self._report)}
        for key, (pause, _) in self._written.items():
            _set(pauses, key, pause)
        self._item = _CHANGED if self._written else item
        self._replace(pauses)

    @contextmanager
    def writing(self, pause: Pause) -> Iterator[None]:
        """Add a pause that this worker writes, or replace it. It is in force at once.

        If the write fails, it is in force until the next read.
        """
        self._note(pause.key, pause, math.inf)
        try:
            yield
        finally:
            self._written[pause.key] = pause, self._clock.steady()

    def on_written(self, pause: Pause) -> None:
        """Add a pause that this worker has written, or replace it."""
        self._note(pause.key, pause, self._clock.steady())

    def on_ended(self, pause: Pause) -> None:
        """Remove a pause that this worker has ended."""
        self._note(pause.key, None, self._clock.steady())

    def find(self, kind: PauseKind, name: str) -> Pause | None:
        """Return the pause in force of this kind and name, or None."""
        pause = self._stored.get(key_of(kind, name))
        return None if pause is None or pause.is_over(self._clock.now()) else pause

    def covering(self, action: str | None, tenant_id: str | None) -> list[Pause]:
        """Return the pauses in force that hold back the requests of this action and tenant."""
        if not self._stored:
            return []
        found = [
            *self._of_all,
            *self._of_action.get(action or "", ()),
            *self._of_tenant.get(tenant_id or "", ()),
        ]
        if not found:
            return []
        now = self._clock.now()
        return [pause for pause in found if not pause.is_over(now)]

    def over_for(self, time: timedelta) -> list[Pause]:
        """Return the pauses that are stored, and were over before this time."""
        then = self._clock.now() - time
        return [pause for pause in self._stored.values() if pause.is_over(then)]

    def _note(self, key: str, pause: Pause | None, at: float) -> None:
        self._item = _CHANGED
        self._written[key] = pause, at
        pauses = dict(self._stored)
        _set(pauses, key, pause)
        self._replace(pauses)

    def _replace(self, pauses: dict[str, Pause]) -> None:
        self._stored = pauses
        self._of_action, self._of_tenant, self._of_all = {}, {}, []
        for pause in self._stored.values():
            if pause.kind is PauseKind.ALL:
                self._of_all.append(pause)
            elif pause.kind is PauseKind.TENANT:
                self._of_tenant.setdefault(pause.name, []).append(pause)
            elif pause.kind in OF_ACTIONS:
                self._of_action.setdefault(pause.name, []).append(pause)
        self.version += 1
        self._announce()

    def _announce(self) -> None:
        """Emit an event for each pause that has begun, changed or ended since the last call."""
        now = self._clock.now()
        before = self._in_force
        self._in_force = {
            key: pause for key, pause in self._stored.items() if not pause.is_over(now)
        }
        for key, pause in self._in_force.items():
            if key not in before or _without_probe(before[key]) != _without_probe(pause):
                self._events.emit(
                    PauseStarted(
                        kind=pause.kind,
                        name=pause.name,
                        by=pause.by,
                        until=pause.until,
                        reason=pause.reason,
                        in_force=self._count(pause.kind),
                    )
                )
        for key, pause in before.items():
            if key not in self._in_force:
                self._events.emit(
                    PauseEnded(kind=pause.kind, name=pause.name, in_force=self._count(pause.kind))
                )

    def _count(self, kind: PauseKind) -> int:
        return sum(pause.kind is kind for pause in self._in_force.values())

    def _report(self, error: Undecodable) -> None:
        self._events.emit(ItemUndecodable(table=WORKERS.name, key=error.key, reason=error.reason))


def _set(pauses: dict[str, Pause], key: str, pause: Pause | None) -> None:
    if pause is None:
        pauses.pop(key, None)
    else:
        pauses[key] = pause


def _without_probe(pause: Pause) -> Pause:
    return replace(pause, probe_at=None)
