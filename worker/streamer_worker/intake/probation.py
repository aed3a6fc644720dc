"""The one place in which a worker runs a suspect: a request that may have killed its workers."""

from __future__ import annotations

from streamer_store import Clock
from streamer_store.rescues import is_suspect, probation_of
from streamer_worker.intake.slots import Slot


class Probation:
    """Lets a worker run one suspect in probation at a time, beside its other requests.

    The place is free in three cases:

    1. It was never used, and the steady clock has reached `free_from`. A young worker runs no
       suspect, so that a crash loop with another cause does not count against the request.
    2. The attempt in it has been settled.
    3. The attempt in it has run for longer than its probation.
    """

    def __init__(self, *, free_from: float, clock: Clock) -> None:
        self._clock = clock
        self._free_from = free_from
        self._slot: Slot | None = None

    @property
    def is_free(self) -> bool:
        settled = self._slot is not None and not self._slot.held
        return settled or self._clock.steady() >= self._free_from

    def enter(self, slot: Slot, rescues: int) -> None:
        """Put the slot into the place if its request is a suspect, otherwise remove it.

        `rescues`: how often the request lost its worker.
        """
        if is_suspect(rescues):
            self._slot = slot
            self._free_from = self._clock.steady() + probation_of(rescues).total_seconds()
        elif slot is self._slot:
            self._free_from = self._clock.steady()
