"""The messages to the connections of a request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from streamer_store import AsyncRequest, Clock, Progress, RequestQueue, StoreError
from streamer_worker.error_codes import CANCELLED
from streamer_worker.push.messages import CompleteMessage, ErrorMessage, ProgressMessage
from streamer_worker.push.push_thread import Push

_CANCELLED_TEXT: Final = "the request was cancelled"


class Announcer:
    """Hands messages about requests to the push thread. Nothing here waits or raises.

    An end is announced only when the table has it.
    """

    def __init__(self, *, push: Push, clock: Clock) -> None:
        self._push = push
        self._clock = clock

    def progressed(self, request: AsyncRequest, newest: Progress) -> None:
        self._push(
            ProgressMessage(
                request_id=request.request_id,
                connection_id=request.connection_id,
                at=self._clock.now(),
                fraction=request.progress if newest.fraction is None else newest.fraction,
                message=newest.message,
                details=newest.details,
            )
        )

    def completed(self, request: AsyncRequest, result: Mapping[str, Any]) -> None:
        self._push(
            CompleteMessage(
                request_id=request.request_id,
                connection_id=request.connection_id,
                at=self._clock.now(),
                result=result,
            )
        )

    async def failed_in_table(
        self, requests: RequestQueue, request_id: str, *, code: str, text: str
    ) -> None:
        """Tell of a failure that the table has, of which no more is at hand than the id."""
        connection_id = None
        with suppress(StoreError):  # without its own connection those subscribed are told
            request = await requests.get(request_id)
            connection_id = request.connection_id
            code, text = request.error_code or code, request.error or text
        self.failed(request_id, connection_id, code=code, text=text)

    def cancelled(self, request: AsyncRequest) -> None:
        self.failed(request.request_id, request.connection_id, code=CANCELLED, text=_CANCELLED_TEXT)

    def failed(self, request_id: str, connection_id: str | None, *, code: str, text: str) -> None:
        self._push(
            ErrorMessage(
                request_id=request_id,
                connection_id=connection_id,
                at=self._clock.now(),
                code=code,
                text=text,
            )
        )
