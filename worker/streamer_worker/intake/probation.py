"""The one place in which a worker runs a suspect: a request that may have ended other workers."""

from __future__ import annotations

from streamer_store import Clock
from streamer_store.rescues import is_suspect, probation_of
from streamer_worker.intake.slots import Slot


class Probation:
    """A worker runs one suspect in probation at a time, beside its other work.

    The place is free when nobody is in it, or the attempt in it has ended or outlived its
    probation. It is closed until `free_from`, on the steady clock: a young worker runs no
    suspect, so that a crash loop with another cause does not count against any.
    """

    def __init__(self, *, free_from: float, clock: Clock) -> None:
        self._clock = clock
        self._free_from = free_from
        self._slot: Slot | None = None

    @property
    def is_free(self) -> bool:
        ended = self._slot is not None and not self._slot.held
        return ended or self._clock.steady() >= self._free_from

    def enter(self, slot: Slot, rescues: int) -> None:
        """Put the attempt of this slot into the place, if a request with so many rescues is a
        suspect. Otherwise take it out.
        """
        if is_suspect(rescues):
            self._slot = slot
            self._free_from = self._clock.steady() + probation_of(rescues).total_seconds()
        elif slot is self._slot:
            self._free_from = self._clock.steady()
