"""A limit of capacity units a second, for work beside live traffic."""

from __future__ import annotations

import math

import anyio

from streamer_store.errors import ValidationError


class UnitLimiter:
    """Spreads capacity units over time. Runs in one event loop.

    What a caller spends delays the callers after it, so that units may also be spent when they
    are known, after the call that consumed them.
    """

    def __init__(self, field: str, units_per_second: float | None) -> None:
        """Build the limiter.

        - `field`: the name of the argument that has the limit.
        - `units_per_second`: more than 0. None: there is no limit.

        Raises ValidationError.
        """
        if units_per_second is not None and not 0 < units_per_second < math.inf:
            raise ValidationError(field, f"must be more than 0, not {units_per_second}")
        self._units_per_second = units_per_second
        self._free_at = -math.inf

    @property
    def is_limited(self) -> bool:
        return self._units_per_second is not None

    async def spend(self, units: float) -> None:
        """Wait until the units spent before are paid for, by time."""
        if self._units_per_second is None:
            return
        now = anyio.current_time()
        start = max(now, self._free_at)
        self._free_at = start + units / self._units_per_second
        if start > now:
            await anyio.sleep_until(start)
