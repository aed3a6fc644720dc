"""Makes the messages about a request, and passes them to the push service."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from streamer_store import AsyncRequest, Clock, Progress, RequestQueue, StoreError
from streamer_worker.error_codes import CANCELLED
from streamer_worker.handlers.client_message import ClientMessage
from streamer_worker.push.messages import (
    CompleteMessage,
    ErrorMessage,
    HandlerMessage,
    ProgressMessage,
)
from streamer_worker.push.push_thread import Push

_CANCELLED_TEXT: Final = "the request was cancelled"
# The words of the Go implementation.
_STARTED_TEXT: Final = "Processing started"
_COMPLETED_TEXT: Final = "Processing complete"


class Announcer:
    """Pushes messages about requests to their connections. No method raises.

    PUSH-1: callers announce an outcome only after it was written to the table.

    go_messages: add what clients of the Go implementation expect (NotifierSettings.go_messages).
    """

    def __init__(self, *, push: Push, clock: Clock, go_messages: bool = False) -> None:
        self._push = push
        self._clock = clock
        self._go_messages = go_messages

    def started(self, request: AsyncRequest) -> None:
        """With `go_messages`, announce that an attempt begins: with the progress of earlier ones,
        which is 0 for the first.
        """
        if self._go_messages:
            self._push_progress(request, Progress(request.progress, _STARTED_TEXT), kept=True)

    def progressed(self, request: AsyncRequest, newest: Progress) -> None:
        """Announce progress. Without a fraction, the fraction at the claim is used."""
        self._push_progress(request, newest)

    def sent(self, request: AsyncRequest, message: ClientMessage) -> None:
        """Pass on a message of the request's handler. Any thread may call it."""
        self._push(
            HandlerMessage(
                request_id=request.request_id,
                connection_id=request.connection_id,
                at=self._clock.now(),
                run=_run_of(request),
                attempt=request.retry_count + 1,
                data=message.data,
                user=message.user,
                tenant=message.tenant,
            )
        )

    def completed(self, request: AsyncRequest, result: Mapping[str, Any]) -> None:
        if self._go_messages:
            self._push_progress(request, Progress(1.0, _COMPLETED_TEXT), kept=True)
        self._push(
            CompleteMessage(
                request_id=request.request_id,
                connection_id=request.connection_id,
                at=self._clock.now(),
                run=_run_of(request),
                result=result,
                success_in_result=self._go_messages,
            )
        )

    def _push_progress(
        self, request: AsyncRequest, progress: Progress, *, kept: bool = False
    ) -> None:
        """Push progress. `kept`: neither newer progress nor the end replaces it."""
        self._push(
            ProgressMessage(
                request_id=request.request_id,
                connection_id=request.connection_id,
                at=self._clock.now(),
                run=_run_of(request),
                fraction=request.progress if progress.fraction is None else progress.fraction,
                message=progress.message,
                details=progress.details,
                kept=kept,
            )
        )

    async def failed_in_table(
        self, requests: RequestQueue, request_id: str, *, code: str, text: str
    ) -> None:
        """Announce a failure that was written for a request of which only the id is known.

        Reads the request for its connection, code and text. If that fails, `code` and `text` are
        used, and only subscribed connections get the message.
        """
        connection_id = run = None
        with suppress(StoreError):
            request = await requests.get(request_id)
            connection_id, run = request.connection_id, _run_of(request)
            code, text = request.error_code or code, request.error or text
        self._push_error(request_id, connection_id, run, code=code, text=text)

    def cancelled(self, request: AsyncRequest) -> None:
        self.failed(request, code=CANCELLED, text=_CANCELLED_TEXT)

    def failed(self, request: AsyncRequest, *, code: str, text: str) -> None:
        run = _run_of(request)
        self._push_error(request.request_id, request.connection_id, run, code=code, text=text)

    def _push_error(
        self,
        request_id: str,
        connection_id: str | None,
        run: datetime | None,
        *,
        code: str,
        text: str,
    ) -> None:
        self._push(
            ErrorMessage(
                request_id=request_id,
                connection_id=connection_id,
                at=self._clock.now(),
                run=run,
                code=code,
                text=text,
            )
        )


def _run_of(request: AsyncRequest) -> datetime | None:
    """Return what tells the runs of a unique key apart."""
    return None if request.unique_key is None else request.created_at
