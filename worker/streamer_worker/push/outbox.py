"""The messages that wait for one connection, and its consecutive failures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import anyio

from streamer_store import Connection, EventType
from streamer_worker.push.message_queue import MessageQueue

MAX_FINALS: Final = 100
MAX_PROGRESS: Final = 100
# Failures in a row that suspend a connection.
_FAILURES: Final = 3


@dataclass(slots=True, eq=False)
class Encoded:
    """The JSON of a message. The outboxes of all recipients share it.

    deliveries: how many deliveries of it wait in outboxes.
    """

    data: bytes
    deliveries: int = 0


@dataclass(slots=True)
class WaitingBytes:
    """Counts the bytes that wait in all outboxes. What several outboxes share counts once."""

    size: int = 0

    def add(self, encoded: Encoded) -> None:
        if not encoded.deliveries:
            self.size += len(encoded.data)
        encoded.deliveries += 1

    def remove(self, encoded: Encoded) -> None:
        encoded.deliveries -= 1
        if not encoded.deliveries:
            self.size -= len(encoded.data)


@dataclass(slots=True, eq=False)
class Delivery:
    """A message for one connection.

    give_up_at: no try follows one that fails after this time, by the steady clock.
    kept: whether it is kept although it is not final.
    """

    type: EventType
    request_id: str
    encoded: Encoded
    give_up_at: float
    kept: bool = False

    @property
    def is_final(self) -> bool:
        return self.type is not EventType.PROGRESS

    @property
    def is_kept(self) -> bool:
        return self.kept or self.is_final

    @property
    def size(self) -> int:
        return len(self.encoded.data)


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

    waiting: the bytes of all outboxes, which the outbox keeps up to date.
    tried: whether a post has failed since the last `put`, so that a flush need not wait.
    urgent: set while final messages wait.
    """

    connection: Connection
    waiting: WaitingBytes
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
        self.waiting.add(delivery.encoded)
        self._count_removed(dropped)
        return dropped

    def first(self) -> Delivery | None:
        """Return the delivery to post next, None if there is none."""
        return self._queue.first()

    def discard(self, delivery: Delivery) -> None:
        """Remove a delivery, if it has not been dropped meanwhile."""
        if self._queue.discard(delivery):
            self._count_removed([delivery])
        self._reset_urgent()

    def pop_all(self) -> list[Delivery]:
        """Remove and return all deliveries."""
        deliveries = self._queue.pop_all()
        self._count_removed(deliveries)
        self._reset_urgent()
        return deliveries

    def _count_removed(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.waiting.remove(delivery.encoded)

    def _reset_urgent(self) -> None:
        if not self._queue.finals and self.urgent.is_set():
            self.urgent = anyio.Event()
