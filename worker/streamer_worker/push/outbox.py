"""The messages that wait for one connection, and its consecutive failures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import anyio

from streamer_store import Connection, EventType
from streamer_worker.push.message_queue import MessageKind, MessageQueue

MAX_WAITING: Final = {MessageKind.FINAL: 100, MessageKind.ORDERED: 1000, MessageKind.PROGRESS: 100}
# Bytes of the messages of handlers that wait for one connection.
_MAX_MESSAGE_SIZE: Final = 1_000_000
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
class Waiting:
    """Counts what waits in all outboxes: the bytes, and the deliveries. Bytes that several
    deliveries share count once.
    """

    size: int = 0
    deliveries: int = 0

    def add(self, encoded: Encoded) -> None:
        if not encoded.deliveries:
            self.size += len(encoded.data)
        encoded.deliveries += 1
        self.deliveries += 1

    def remove(self, encoded: Encoded) -> None:
        self.deliveries -= 1
        encoded.deliveries -= 1
        if not encoded.deliveries:
            self.size -= len(encoded.data)


@dataclass(slots=True, eq=False)
class Delivery:
    """A message for one connection.

    Both times are by the steady clock.

    overtakes_at: when a final message no longer waits for the messages of its request (PUSH-4).
    give_up_at: no try follows one that fails after this time. A message of a handler is dropped
        then, also untried.
    """

    type: str
    kind: MessageKind
    request_id: str
    encoded: Encoded
    overtakes_at: float
    give_up_at: float

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

    waiting: the counts of all outboxes, which the outbox keeps up to date.
    tried: whether a post has failed since the last `put`, so that a flush need not wait.
    urgent: set while final messages wait.
    untried: set from the `put` of a final message until one was tried.
    """

    connection: Connection
    waiting: Waiting
    tried: bool = False
    urgent: anyio.Event = field(default_factory=anyio.Event)
    untried: anyio.Event = field(default_factory=anyio.Event)
    _queue: MessageQueue[Delivery] = field(default_factory=MessageQueue)

    def put(self, delivery: Delivery) -> list[Delivery]:
        """Add a delivery. Return those that are dropped for it: the older progress of the same
        request, and the oldest of its kind if there are too many.
        """
        replaced = self._queue.put(delivery)
        dropped = [] if replaced is None else [replaced]
        if delivery.kind is MessageKind.FINAL:
            self.urgent.set()
            self.untried.set()
        while self._has_too_many(delivery.kind):
            dropped.append(self._queue.pop(delivery.kind))
        self.tried = False
        self.waiting.add(delivery.encoded)
        self._count_removed(dropped)
        return dropped

    def first(self, now: float, *, failing: bool) -> Delivery | None:
        """Return the delivery to post next, None if there is none.

        failing: whether the last post has failed. Then a final message waits for no other.
        """
        return self._queue.first(lambda final: failing or final.overtakes_at <= now)

    def mark_tried(self, delivery: Delivery) -> None:
        """Note that a delivery was posted, or that its post has failed."""
        if delivery.kind is MessageKind.FINAL and self.untried.is_set():
            self.untried = anyio.Event()

    def pop_expired(self, now: float) -> list[Delivery]:
        """Remove and return the messages of handlers that are given up."""
        expired = []
        while (oldest := self._queue.oldest_ordered()) is not None and oldest.give_up_at <= now:
            expired.append(self._queue.pop(MessageKind.ORDERED))
        self._count_removed(expired)
        return expired

    def discard(self, delivery: Delivery) -> bool:
        """Remove a delivery. Return whether it had not been dropped meanwhile."""
        was_there = self._queue.discard(delivery)
        if was_there:
            self._count_removed([delivery])
        self._reset_urgent()
        return was_there

    def pop_all(self) -> list[Delivery]:
        """Remove and return all deliveries."""
        deliveries = self._queue.pop_all()
        self._count_removed(deliveries)
        self._reset_urgent()
        self.untried = anyio.Event()
        return deliveries

    def pop_late_progress(self, final: Delivery) -> list[Delivery]:
        """Remove and return the progress of a request that a final message has overtaken."""
        late = [
            delivery
            for delivery in self._queue.ordered_of(final.request_id)
            if delivery.type == EventType.PROGRESS
        ]
        for delivery in late:
            self.discard(delivery)
        return late

    def _has_too_many(self, kind: MessageKind) -> bool:
        if kind is MessageKind.ORDERED and self._queue.ordered_size > _MAX_MESSAGE_SIZE:
            return True
        return self._queue.count(kind) > MAX_WAITING[kind]

    def _count_removed(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.waiting.remove(delivery.encoded)

    def _reset_urgent(self) -> None:
        if not self._queue.count(MessageKind.FINAL) and self.urgent.is_set():
            self.urgent = anyio.Event()
