"""The messages that wait for delivery, without those that newer ones replace (pure)."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class _Queued(Protocol):
    """A message, or an object that holds one."""

    @property
    def request_id(self) -> str: ...

    @property
    def is_final(self) -> bool: ...

    @property
    def size(self) -> int:
        """Bytes of memory, the same at each call."""
        ...


Item = TypeVar("Item", bound=_Queued)


class MessageQueue(Generic[Item]):
    """Holds the final messages in their order, and only the newest progress of each request.

    It has no bounds of its own: the owner calls `pop_progress` and `pop_final`. It has no lock.

    size: the bytes of memory of all items.
    """

    def __init__(self) -> None:
        self._finals: deque[Item] = deque()
        self._progress: dict[str, Item] = {}
        self.size = 0

    @property
    def finals(self) -> int:
        """How many final messages wait."""
        return len(self._finals)

    @property
    def progress(self) -> int:
        """How many progress messages wait."""
        return len(self._progress)

    def __len__(self) -> int:
        return self.finals + self.progress

    def put(self, item: Item) -> Item | None:
        """Add an item at the end. Return the progress of its request that it replaces, if any."""
        replaced = self._progress.pop(item.request_id, None)
        if item.is_final:
            self._finals.append(item)
        else:
            self._progress[item.request_id] = item
        self.size += item.size - (replaced.size if replaced is not None else 0)
        return replaced

    def first(self) -> Item | None:
        """Return the item to deliver next: the oldest final one, else the oldest progress."""
        if self._finals:
            return self._finals[0]
        return next(iter(self._progress.values()), None)

    def pop_final(self) -> Item:
        """Remove and return the oldest final item. Raises IndexError if there is none."""
        item = self._finals.popleft()
        self.size -= item.size
        return item

    def pop_progress(self) -> Item:
        """Remove and return the oldest progress. Raises StopIteration if there is none."""
        item = self._progress.pop(next(iter(self._progress)))
        self.size -= item.size
        return item

    def discard(self, item: Item) -> bool:
        """Remove this very item. Return whether it was still in the queue."""
        if item.is_final:
            if item not in self._finals:
                return False
            self._finals.remove(item)
        else:
            if self._progress.get(item.request_id) is not item:
                return False
            del self._progress[item.request_id]
        self.size -= item.size
        return True

    def pop_all(self) -> list[Item]:
        """Remove and return all items, progress first: it may be older than a final message of
        its request, and must not come after it.
        """
        items = [*self._progress.values(), *self._finals]
        self._progress.clear()
        self._finals.clear()
        self.size = 0
        return items
