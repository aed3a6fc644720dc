"""A handler's progress on its way to the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio

from streamer_store import (
    AccessDenied,
    Claim,
    ClaimLost,
    RequestQueue,
    StoreUnavailable,
    TableMissing,
)
from streamer_worker.events import Events, ProgressDropped


class ProgressWriter:
    """Writes for one claim, one write at a time, so that none overtakes another."""

    def __init__(
        self,
        *,
        requests: RequestQueue,
        claim: Claim,
        on_lost: Callable[[ClaimLost], None],
        events: Events,
    ) -> None:
        self._requests = requests
        self._claim = claim
        self._on_lost = on_lost
        self._events = events
        self._writing = anyio.Lock()

    async def __call__(
        self, progress: float | None, message: str | None, details: Mapping[str, Any] | None
    ) -> None:
        async with self._writing:
            try:
                await self._requests.update_progress(self._claim, progress, message, details)
            except ClaimLost as error:
                self._on_lost(error)
                await anyio.lowlevel.checkpoint()
            except (StoreUnavailable, AccessDenied, TableMissing) as error:
                event = ProgressDropped(request_id=self._claim.request_id, error=error)
                self._events.emit(event)
