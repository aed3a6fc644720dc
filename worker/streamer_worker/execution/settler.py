"""Writing the outcome: one fenced write, tried again through outages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, assert_never

import anyio

from streamer_store import (
    AsyncRequest,
    Cancelled,
    Claim,
    ClaimLost,
    InvalidInput,
    ItemTooLarge,
    Progress,
    RequestQueue,
    StoreError,
)
from streamer_worker.concurrency.deadlines import ShieldedDeadline
from streamer_worker.error_codes import INVALID_RESULT, ITEM_TOO_LARGE
from streamer_worker.events import Events, SettleDelayed, WriteFenced
from streamer_worker.execution.outcome import Complete, Fail, Outcome, Release, Retry
from streamer_worker.push.announcer import Announcer
from streamer_worker.retry import backoff
from streamer_worker.sanitize import sanitized

if TYPE_CHECKING:
    import random

PATIENCE: Final = 3600.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_REFUSED: Final = Fail(error="the outcome could not be written", code=INVALID_RESULT)


class Settler:
    """Settles requests, and announces how they ended to their connections."""

    def __init__(
        self,
        *,
        requests: RequestQueue,
        announcer: Announcer,
        events: Events,
        rng: random.Random,
    ) -> None:
        self._requests = requests
        self._announcer = announcer
        self._events = events
        self._rng = rng
        self._patience = ShieldedDeadline(PATIENCE)

    async def settle(
        self, claim: Claim, outcome: Outcome, progress: Progress | None = None
    ) -> tuple[str, Outcome]:
        """Write the outcome, and with it the progress that the table does not have yet; return
        what became of the request, and what was written.

        It becomes completed, failed, retried, snoozed, rescued or released; cancelled or claim_lost
        where the fence decided otherwise; unsettled where the table did not answer for an
        hour, or until the end that `hurry` set. Not interrupted by cancellation.
        """
        with self._patience.scope():
            for pause in backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng):
                try:
                    became = await self._write(claim, outcome, progress)
                except Cancelled:
                    self._tell_fenced(claim, outcome, cancelled=True)
                    self._announcer.cancelled(claim.request)
                    return "cancelled", outcome
                except ClaimLost:
                    self._tell_fenced(claim, outcome, cancelled=False)
                    return "claim_lost", outcome
                except InvalidInput as error:
                    if progress is not None:
                        progress = None  # what it did counts more than how far it was
                        continue
                    lesser = _instead(outcome, error)
                    if lesser is None:
                        break
                    # For good: an answer that is lost must find the same outcome again.
                    outcome = lesser
                    continue
                except StoreError as error:  # it may pass, or somebody may mend it
                    self._events.emit(SettleDelayed(request_id=claim.request_id, error=error))
                else:
                    self._announce(claim.request, outcome)
                    return became, outcome
                await anyio.sleep(pause)
        return "unsettled", outcome

    def tighten(self, seconds: float) -> None:
        """Give every write under way, and every later one, this long at most."""
        self._patience.tighten(seconds)

    def _announce(self, request: AsyncRequest, outcome: Outcome) -> None:
        """Announce the end of a request. A request that runs again has not ended."""
        match outcome:
            case Complete(result=result):
                self._announcer.completed(request, result)
            case Fail(error=text, code=code):
                self._announcer.failed(
                    request.request_id, request.connection_id, code=code, text=text
                )

    def _tell_fenced(self, claim: Claim, outcome: Outcome, *, cancelled: bool) -> None:
        operation = type(outcome).__name__.lower()
        event = WriteFenced(
            request_id=claim.request_id, operation=operation, cancelled=cancelled, settles=True
        )
        self._events.emit(event)

    async def _write(self, claim: Claim, outcome: Outcome, progress: Progress | None) -> str:
        match outcome:
            case Complete(result=result):
                await self._requests.complete(claim, result, progress=progress)
                return "completed"
            case Fail(error=text, code=code):
                await self._requests.fail(claim, text, code, progress=progress)
                return "failed"
            case Retry(after=after, error=error, code=code, counts=counts, rescued=rescued):
                await self._requests.retry(
                    claim,
                    after,
                    error=error,
                    code=code,
                    counts=counts,
                    rescued=rescued,
                    progress=progress,
                )
                if rescued is not None:
                    return "rescued"
                return "retried" if counts else "snoozed"
            case Release():
                await self._requests.release(claim, progress=progress)
                return "released"
        assert_never(outcome)


def _instead(outcome: Outcome, error: StoreError) -> Outcome | None:
    """Return what to write in place of an outcome that was refused; None when nothing is left."""
    match outcome:
        case Complete() if isinstance(error, ItemTooLarge):
            text = f"the request with its result is too large: {error.message}"
            return Fail(error=sanitized(text), code=ITEM_TOO_LARGE)
        case Complete():
            return Fail(error=sanitized(str(error)), code=INVALID_RESULT)
        case Retry(error=str()) if isinstance(error, ItemTooLarge):
            return replace(outcome, error=None)
        case Retry():
            return Fail(error=sanitized(str(error)), code=ITEM_TOO_LARGE)
        case Fail() if outcome != _REFUSED:
            return _REFUSED
    return None
