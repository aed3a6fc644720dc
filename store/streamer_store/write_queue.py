"""The writes that wait to be sent together, and which of them share a call.

Invariants (docs/invariants.md): VERSION-2. The client sends a batch whose answer was lost again. So
only writes that recognise their own first copy may be in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio

from streamer_store.conditions import Absent, OneOf
from streamer_store.engine import Delete, Put, Update, Write
from streamer_store.schema import Table
from streamer_store.values import Item, item_size, value_size

MAX_WRITES: Final = 25
"""The most writes of a call (DynamoDB API Reference, BatchExecuteStatement)."""
_MAX_BYTES: Final = 1024 * 1024
"""Of the values that a call sends, and of the items that it returns."""
_FIRST_RETURNED_BYTES: Final = 10 * 1024
_OWN_MARKS: Final = frozenset({"Version", "WriteSeq"})


def can_share_call(write: Write) -> bool:
    """Return whether a write has the same effect in a batch as on its own.

    1. A batch never creates an item by an update, and knows neither `adds`, `deletes` nor
       `if_not_exists`. It creates an item only where there was none.
    2. The client may send the batch twice, so the write must recognise its first copy.
    """
    if isinstance(write, Put):
        return write.conditions == (Absent(write.table.hash_key),)
    if isinstance(write, Delete):  # its second copy finds no item
        return any(isinstance(each, OneOf) and each.name == "Version" for each in write.conditions)
    if write.adds or write.deletes or write.if_not_exists or _OWN_MARKS.isdisjoint(write.sets):
        return False
    for condition in write.conditions:  # noqa: SIM110  half the time of `any`, for every write
        if not isinstance(condition, Absent):
            return True
    return False


class Event(Protocol):
    """The methods of anyio.Event that a waiter needs."""

    def set(self) -> object: ...

    def is_set(self) -> bool: ...

    async def wait(self) -> object: ...


@dataclass(slots=True, eq=False)
class Waiter:
    """A write whose caller waits for the answer."""

    write: Write
    sent_bytes: int
    answered: Event
    item: Item = field(default_factory=dict)
    error: Exception | None = None
    is_cancelled: bool = False

    @property
    def key(self) -> tuple[Table, str]:
        return self.write.table, self.write.key

    def succeed(self, item: Item) -> None:
        self.item = item
        self.answered.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.answered.set()


class WriteQueue:
    """Writes in the order in which they were made, until a call takes them."""

    def __init__(self, new_event: Callable[[], Event] = anyio.Event) -> None:
        self._new_event = new_event
        self._waiting: deque[Waiter] = deque()
        self._returned_bytes = _FIRST_RETURNED_BYTES

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, write: Write) -> Waiter:
        """Add a write, and return where its answer will be."""
        waiter = Waiter(write, _sent_bytes(write), self._new_event())
        self._waiting.append(waiter)
        return waiter

    def clear(self) -> None:
        """Forget all writes."""
        self._waiting.clear()

    def note_returned(self, item: Item) -> None:
        """Record an item that a write has returned: the next ones will be about as large."""
        self._returned_bytes = max(item_size(item), self._returned_bytes * 9 // 10)

    def take_batch(self) -> list[Waiter]:
        """Take the writes of the next call, in order. Those that do not fit keep their places."""
        taken: dict[tuple[Table, str], Waiter] = {}
        kept: list[Waiter] = []
        sent = returned = 0
        while self._waiting and len(taken) < MAX_WRITES:
            waiter = self._waiting.popleft()
            if waiter.is_cancelled:
                continue
            if waiter.key in taken:
                kept.append(waiter)
                continue
            sent += waiter.sent_bytes
            returned += self._returned_bytes if _is_returning(waiter.write) else 0
            if taken and max(sent, returned) > _MAX_BYTES:
                kept.append(waiter)
                break
            taken[waiter.key] = waiter
        self._waiting.extendleft(reversed(kept))
        return list(taken.values())


def _is_returning(write: Write) -> bool:
    return isinstance(write, Update) and write.returning


def _sent_bytes(write: Write) -> int:
    """Return about how many bytes the values of a write are. Numbers count as none."""
    if isinstance(write, Delete):
        return 0
    values = write.item if isinstance(write, Put) else write.sets
    size = 0
    for value in values.values():
        text = value.get("S")
        if text is not None:
            size += len(text)
        elif "N" not in value:
            size += value_size(value)
    return size
