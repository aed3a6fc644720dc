"""Writes outcomes: one fenced write each, retried through outages."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple, assert_never

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
from streamer_worker.events import SettleDelayed, WriteFenced
from streamer_worker.execution.outcome import Complete, Fail, Outcome, Release, Retry
from streamer_worker.push.announcer import Announcer
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime
from streamer_worker.sanitize import sanitized

SETTLE_TIMEOUT: Final = 3600.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_REFUSED: Final = Fail(error="the outcome could not be written", code=INVALID_RESULT)


class Settled(NamedTuple):
    """`status` is what the request became. `outcome` is the last one that was sent to the table;
    None if none was.
    """

    status: str
    outcome: Outcome | None


class Settler:
    """Writes the outcomes of requests, and announces their ends to connections. Event loop's
    thread only.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        announcer: Announcer,
        runtime: Runtime,
    ) -> None:
        self._requests = requests
        self._announcer = announcer
        self._events = runtime.events
        self._rng = runtime.rng
        self._deadline = ShieldedDeadline(SETTLE_TIMEOUT)

    async def settle(
        self, claim: Claim, outcome: Outcome, progress: Progress | None = None
    ) -> Settled:
        """Write the outcome and, in the same write, the progress that is not in the table yet.

        The status is one of:

        1. completed, failed, retried, snoozed, rescued or released: written.
        2. cancelled or claim_lost: the fence refused the write.
        3. unsettled: the table did not accept it within SETTLE_TIMEOUT, or until the deadline
           that `tighten` set.

        An outcome that cannot be stored is replaced by a failure that can. SETTLE-1: store errors
        are retried and not raised, and the writes are shielded from cancellation.
        """
        with self._deadline.scope():
            pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
            while True:
                try:
                    status = await self._write(claim, outcome, progress)
                except Cancelled:
                    self._report_fenced(claim, outcome, cancelled=True)
                    self._announcer.cancelled(claim.request)
                    return Settled("cancelled", outcome)
                except ClaimLost:
                    self._report_fenced(claim, outcome, cancelled=False)
                    return Settled("claim_lost", outcome)
                except InvalidInput as error:
                    if progress is not None:
                        progress = None  # the outcome without the progress may be accepted
                        continue
                    replacement = _replacement(outcome, error)
                    if replacement is None:
                        break
                    # Kept for each further try: after a lost answer the same outcome is sent.
                    outcome = replacement
                    continue
                except StoreError as error:  # the outage may end, or an operator may fix it
                    self._events.emit(SettleDelayed(request_id=claim.request_id, error=error))
                else:
                    self._announce(claim.request, outcome)  # PUSH-1: only what was written
                    return Settled(status, outcome)
                await anyio.sleep(next(pauses))
        return Settled("unsettled", outcome)

    def tighten(self, seconds: float) -> None:
        """Limit each write, under way or later, to end within this many seconds from now."""
        self._deadline.tighten(seconds)

    def _announce(self, request: AsyncRequest, outcome: Outcome) -> None:
        """Announce the end of a request. A request that runs again is not announced."""
        match outcome:
            case Complete(result=result):
                self._announcer.completed(request, result)
            case Fail(error=text, code=code):
                self._announcer.failed(request, code=code, text=text)

    def _report_fenced(self, claim: Claim, outcome: Outcome, *, cancelled: bool) -> None:
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
                await self._requests.fail(
                    claim, text, code, error_class=outcome.error_class, progress=progress
                )
                return "failed"
            case Retry(after=after, error=error, code=code, counts=counts, rescued=rescued):
                await self._requests.retry(
                    claim,
                    after,
                    error=error,
                    code=code,
                    error_class=outcome.error_class,
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


def _replacement(outcome: Outcome, error: StoreError) -> Outcome | None:
    """Return the outcome to write in place of a refused one; None when none is left."""
    match outcome:
        case Complete() if isinstance(error, ItemTooLarge):
            text = f"the request with its result is too large: {error.message}"
            return Fail(error=sanitized(text), code=ITEM_TOO_LARGE)
        case Retry(error=str()) if isinstance(error, ItemTooLarge):
            return replace(outcome, error=None)
        case Retry() if isinstance(error, ItemTooLarge):
            return Fail(error=sanitized(str(error)), code=ITEM_TOO_LARGE)
        case Complete() | Retry():
            return Fail(error=sanitized(str(error)), code=INVALID_RESULT)
        case Fail() if outcome != _REFUSED:
            return _REFUSED
    return None
