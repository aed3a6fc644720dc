"""Writing the outcome: one fenced write, tried again through outages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, assert_never

import anyio

from streamer_store import (
    Cancelled,
    Claim,
    ClaimLost,
    ItemTooLarge,
    RequestQueue,
    StoreError,
    ValidationError,
)
from streamer_worker.events import Events, SettleDelayed
from streamer_worker.outcome import INVALID_RESULT, Complete, Fail, Outcome, Release, readable
from streamer_worker.retry import backoff

if TYPE_CHECKING:
    import random

ITEM_TOO_LARGE = "ITEM_TOO_LARGE"
_PATIENCE = 3600.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


class Settler:
    def __init__(self, *, requests: RequestQueue, events: Events, rng: random.Random) -> None:
        self._requests = requests
        self._events = events
        self._rng = rng
        self._open: set[anyio.CancelScope] = set()
        self._latest: float | None = None

    async def settle(self, claim: Claim, outcome: Outcome) -> str:
        """Write the outcome and return what became of the request.

        That is completed, failed or released; cancelled or claim_lost where the fence decided
        otherwise; unsettled where the table did not answer for an hour, or until the end that
        `hurry` set. Not interrupted by cancellation.
        """
        with self._scope():
            for pause in backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng):
                try:
                    return await self._write(claim, outcome)
                except Cancelled:
                    return "cancelled"
                except ClaimLost:
                    return "claim_lost"
                except StoreError as error:
                    if isinstance(outcome, Complete) and isinstance(error, ValidationError):
                        # For good: an answer that is lost must find the same outcome again.
                        outcome = _refused(error)
                        continue
                    # Also when access is denied: an operator may mend that within the hour.
                    self._events.emit(SettleDelayed(request_id=claim.request_id, error=error))
                await anyio.sleep(pause)
        return "unsettled"

    def hurry(self, seconds: float) -> None:
        """Give every write under way, and every later one, this long at most."""
        self._latest = anyio.current_time() + seconds
        for scope in self._open:
            scope.deadline = min(scope.deadline, self._latest)

    async def _write(self, claim: Claim, outcome: Outcome) -> str:
        match outcome:
            case Complete(result=result):
                await self._requests.complete(claim, result)
                return "completed"
            case Fail(error=text, code=code):
                await self._requests.fail(claim, text, code)
                return "failed"
            case Release():
                await self._requests.release(claim)
                return "released"
        assert_never(outcome)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        deadline = anyio.current_time() + _PATIENCE
        if self._latest is not None:
            deadline = min(deadline, self._latest)
        with anyio.CancelScope(shield=True, deadline=deadline) as scope:
            self._open.add(scope)
            try:
                yield
            finally:
                self._open.discard(scope)


def _refused(error: ValidationError) -> Fail:
    if isinstance(error, ItemTooLarge):
        text = f"the request with its result is too large: {error.message}"
        return Fail(error=readable(text), code=ITEM_TOO_LARGE)
    return Fail(error=readable(str(error)), code=INVALID_RESULT)
