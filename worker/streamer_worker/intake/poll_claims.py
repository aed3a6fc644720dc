"""The claims that one poll has sent."""

from __future__ import annotations

import anyio

from streamer_store import Candidate


class PollClaims:
    """The claims of one poll.

    `candidates`: how many requests could be claimed. `won`: the requests whose claims were won.
    `pending`: how many claims have not ended. `left_others`: requests homed elsewhere were left.
    `errors`: what was raised and not expected.
    """

    def __init__(self) -> None:
        self.candidates = 0
        self.won: list[Candidate] = []
        self.pending = 0
        self.left_others = False
        self.errors: list[Exception] = []
        self._waiting = anyio.CancelScope()

    def begin(self) -> None:
        self.pending += 1

    def end(self) -> None:
        self.pending -= 1
        if not self.pending:
            self._waiting.cancel()

    async def wait_ended_or(self, event: anyio.Event) -> None:
        """Wait until all claims have ended, or the event is set."""
        self._waiting = anyio.CancelScope()
        with self._waiting:
            await event.wait()

    async def wait_ended(self) -> None:
        """Wait until all claims have ended."""
        if self.pending:
            await self.wait_ended_or(anyio.Event())

    def raise_errors(self) -> None:
        """Raise an exception group of the errors, if there are any."""
        if self.errors:
            raise ExceptionGroup("claims failed", self.errors)
