"""A limit of capacity units a second, for work beside live traffic."""

from __future__ import annotations

import math

import anyio

from streamer_store.errors import ValidationError
from streamer_store.values import short_repr


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
        if units_per_second is not None:
            is_number = type(units_per_second) in {int, float}
            if not is_number or not 0 < units_per_second < math.inf:
                shown = short_repr(units_per_second)
                raise ValidationError(field, f"must be a number more than 0, not {shown}")
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
