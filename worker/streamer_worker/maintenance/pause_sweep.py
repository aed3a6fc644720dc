"""Deletes pauses that are over. Only the leader does."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from streamer_store import Pauses
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.pauses import KnownPauses

_INTERVAL: Final = 60.0
# How long a pause is kept after its end by the leader's clock: other workers judge by their own.
_KEPT_FOR: Final = timedelta(hours=1)


class PauseSweep:
    """Deletes pauses whose end has passed by an hour. They hold nothing back, and use space."""

    def __init__(self, *, known: KnownPauses, pauses: Pauses, membership: Membership) -> None:
        self._known = known
        self._pauses = pauses
        self._membership = membership

    async def step(self) -> int:
        """Delete what is over, and return how many were deleted. 0 unless this worker leads.

        LEADER-1: a pause that was replaced meanwhile is kept. Raises what the store raises.
        """
        deleted = 0
        for pause in self._known.over_for(_KEPT_FOR) if self._membership.leads else ():
            deleted += await self._pauses.end(pause)
        return deleted

    def pause(self, _: object) -> float:
        """Return the seconds until the next sweep."""
        return _INTERVAL
