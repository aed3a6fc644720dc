"""A handler's progress on its way to the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from streamer_store import Claim, ClaimLost, RequestQueue, StoreUnavailable
from streamer_worker.events import Events, ProgressDropped


class ProgressWriter:
    """Writes for one claim, one write at a time, so that none overtakes another."""

    def __init__(self, *, requests: RequestQueue, claim: Claim, events: Events) -> None:
        self._requests = requests
        self._claim = claim
        self._events = events
        self._writing = anyio.Lock()
        self._scope = anyio.CancelScope()
        self.lost: ClaimLost | None = None

    @property
    def scope(self) -> anyio.CancelScope:
        """The scope that the handler runs in; it is cancelled when the claim is lost."""
        return self._scope

    async def __call__(
        self, progress: float | None, message: str | None, details: Mapping[str, Any] | None
    ) -> None:
        async with self._writing:
            try:
                await self._requests.update_progress(self._claim, progress, message, details)
            except ClaimLost as error:
                self.lost = error
                self._scope.cancel()
                await anyio.lowlevel.checkpoint()
            except StoreUnavailable as error:
                event = ProgressDropped(request_id=self._claim.request_id, error=error)
                self._events.emit(event)
