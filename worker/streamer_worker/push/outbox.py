"""The messages that wait for one connection, and its consecutive failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import anyio

from streamer_store import Connection
from streamer_worker.push.message_queue import MessageQueue
from streamer_worker.push.messages import Message

MAX_FINALS: Final = 100
MAX_PROGRESS: Final = 100
# Failures in a row that suspend a connection.
_FAILURES: Final = 3


@dataclass(slots=True, eq=False)
class Delivery:
    """A message for one connection.

    data: the encoded message.
    give_up_at: no try follows one that fails after this time, by the steady clock.
    """

    message: Message
    data: bytes
    give_up_at: float

    @property
    def request_id(self) -> str:
        return self.message.request_id

    @property
    def is_final(self) -> bool:
        return self.message.is_final


@dataclass(slots=True)
class FailureStreak:
    """Counts the consecutive failures of posts to one connection."""

    failures: int = 0

    @property
    def suspended(self) -> bool:
        """Whether posts to the connection pause."""
        return self.failures >= _FAILURES


@dataclass(slots=True, eq=False)
class Outbox:
    """The deliveries that wait for one connection, in a MessageQueue with bounds.

    tried: whether a post has failed since the last `put`, so that a flush need not wait.
    urgent: set while final messages wait.
    """

    connection: Connection
    tried: bool = False
    urgent: anyio.Event = field(default_factory=anyio.Event)
    _queue: MessageQueue[Delivery] = field(default_factory=MessageQueue)

    def put(self, delivery: Delivery) -> list[Delivery]:
        """Add a delivery. Return those that are dropped for it: the older progress of the same
        request, and the oldest of its kind if there are too many.
        """
        replaced = self._queue.put(delivery)
        dropped = [] if replaced is None else [replaced]
        if delivery.is_final:
            self.urgent.set()
        if self._queue.finals > MAX_FINALS:
            dropped.append(self._queue.pop_final())
        if self._queue.progress > MAX_PROGRESS:
            dropped.append(self._queue.pop_progress())
        self.tried = False
        return dropped

    def first(self) -> Delivery | None:
        """Return the delivery to post next, None if there is none."""
        return self._queue.first()

    def discard(self, delivery: Delivery) -> None:
        """Remove a delivery, if it has not been dropped meanwhile."""
        self._queue.discard(delivery)
        self._reset_urgent()

    def pop_all(self) -> list[Delivery]:
        """Remove and return all deliveries."""
        deliveries = self._queue.pop_all()
        self._reset_urgent()
        return deliveries

    def _reset_urgent(self) -> None:
        if not self._queue.finals and self.urgent.is_set():
            self.urgent = anyio.Event()
