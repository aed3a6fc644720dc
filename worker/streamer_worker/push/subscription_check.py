"""Finds out whether anybody has subscribed at all, once for many messages."""

from __future__ import annotations

import math
from typing import Final

import anyio

from streamer_store import AccessDenied, SubscriptionStore
from streamer_worker.events import StepFailed
from streamer_worker.runtime import Runtime

# Seconds for which subscriptions are taken to exist: after one was found, or after an error.
EXIST_FOR: Final = 5.0
DENIED_FOR: Final = 300.0
# Seconds between the beginnings of two Scans. So a worker takes 20 of the 3,000 consistent reads
# a second that the first partition of the table allows (DynamoDB Developer Guide, "Partitions").
SCAN_EVERY: Final = 0.05


class SubscriptionCheck:
    """Tells messages that nobody can have subscribed to, by a Scan of one item.

    That the table is empty is never remembered: it is true only of messages that were offered
    before the Scan began. Not thread-safe, and one `scan` at a time.
    """

    def __init__(self, *, subscriptions: SubscriptionStore, runtime: Runtime) -> None:
        self._subscriptions = subscriptions
        self._events = runtime.events
        self._steady = runtime.clock.steady
        self._exist_until = -math.inf
        self._next_scan = -math.inf

    @property
    def assume_exist(self) -> bool:
        """Whether no Scan is needed: each message needs a Query of its own."""
        return self._steady() < self._exist_until

    async def wait_for_turn(self) -> None:
        """Wait until the rate of Scans allows another one. Messages may be added meanwhile."""
        await anyio.sleep(max(0.0, self._next_scan - self._steady()))

    async def scan(self) -> bool:
        """Return whether subscriptions may exist, of which `subscribe` returned before this call.

        True after an error, which is emitted. `assume_exist` is true for a while after True.
        """
        self._next_scan = self._steady() + SCAN_EVERY
        exist_for = EXIST_FOR
        try:
            if not await self._subscriptions.any_exist():
                return False
        except Exception as error:  # noqa: BLE001  a Query of each message decides instead
            self._events.emit(StepFailed(loop="push", error=error))
            if isinstance(error, AccessDenied):
                exist_for = DENIED_FOR
        self._exist_until = self._steady() + exist_for
        return True
