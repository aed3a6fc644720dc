"""What is pushed to the connections of a request, and when."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from streamer_store import AsyncRequest, Clock, Progress, RequestQueue, StoreError
from streamer_worker.codes import CANCELLED
from streamer_worker.outcome import Complete, Fail, Outcome
from streamer_worker.push.messages import CompleteMessage, ErrorMessage, ProgressMessage
from streamer_worker.push.opening import Push

_CANCELLED_TEXT: Final = "the request was cancelled"


class Announcer:
    """Tells of progress, and of an end once the table has it. Nothing here waits or raises."""

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

    def settled(self, request: AsyncRequest, became: str, outcome: Outcome | None) -> None:
        """Tell how a request ended; nothing, while it will run again."""
        match became, outcome:
            case "completed", Complete(result=result):
                self._push(
                    CompleteMessage(
                        request_id=request.request_id,
                        connection_id=request.connection_id,
                        at=self._clock.now(),
                        result=result,
                    )
                )
            case "failed", Fail(error=text, code=code):
                self.failed(request.request_id, request.connection_id, code=code, text=text)
            case "cancelled", _:
                self.cancelled(request)

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
