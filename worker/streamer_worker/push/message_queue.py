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
    def is_kept(self) -> bool:
        """Whether no newer message of the request replaces it. Every final one is kept."""
        ...

    @property
    def size(self) -> int:
        """Bytes of memory, the same at each call."""
        ...


Item = TypeVar("Item", bound=_Queued)


class MessageQueue(Generic[Item]):
    """Holds the kept messages in their order, and only the newest other progress of each request.

    It has no bounds of its own: the owner calls `pop_progress` and `pop_final`. It has no lock.

    size: the bytes of memory of all items.
    """

    def __init__(self) -> None:
        self._kept: deque[Item] = deque()
        self._kept_progress = 0
        self._progress: dict[str, Item] = {}
        self.size = 0

    @property
    def finals(self) -> int:
        """How many final messages wait."""
        return len(self._kept) - self._kept_progress

    @property
    def progress(self) -> int:
        """How many progress messages wait."""
        return len(self._progress) + self._kept_progress

    def __len__(self) -> int:
        return self.finals + self.progress

    def put(self, item: Item) -> Item | None:
        """Add an item at the end. Return the progress of its request that it replaces, if any."""
        replaced = self._progress.pop(item.request_id, None)
        if item.is_kept:
            self._kept.append(item)
            self._kept_progress += not item.is_final
        else:
            self._progress[item.request_id] = item
        self.size += item.size - (replaced.size if replaced is not None else 0)
        return replaced

    def first(self) -> Item | None:
        """Return the item to deliver next: the oldest kept one, else the oldest progress."""
        if self._kept:
            return self._kept[0]
        return next(iter(self._progress.values()), None)

    def pop_final(self) -> Item:
        """Remove and return the oldest final item. Raises StopIteration if there is none."""
        return self._pop_kept(final=True)

    def pop_progress(self) -> Item:
        """Remove and return the oldest progress, a kept one only if there is no other. Raises
        StopIteration if there is none.
        """
        if not self._progress:
            return self._pop_kept(final=False)
        item = self._progress.pop(next(iter(self._progress)))
        self.size -= item.size
        return item

    def discard(self, item: Item) -> bool:
        """Remove this very item. Return whether it was still in the queue."""
        if item.is_kept:
            if item not in self._kept:
                return False
            self._remove_kept(item)
        else:
            if self._progress.get(item.request_id) is not item:
                return False
            del self._progress[item.request_id]
            self.size -= item.size
        return True

    def pop_all(self) -> list[Item]:
        """Remove and return all items, progress first: it must not come after a final message of
        its request. Progress comes last if only kept progress of its request waits before it.
        """
        ends = {item.request_id: item.is_final for item in self._kept}
        first: list[Item] = []
        last: list[Item] = []
        for request_id, item in self._progress.items():
            (first if ends.get(request_id, True) else last).append(item)
        items = [*first, *self._kept, *last]
        self._progress.clear()
        self._kept.clear()
        self._kept_progress = 0
        self.size = 0
        return items

    def _pop_kept(self, *, final: bool) -> Item:
        item = next(item for item in self._kept if item.is_final is final)
        self._remove_kept(item)
        return item

    def _remove_kept(self, item: Item) -> None:
        self._kept.remove(item)
        self._kept_progress -= not item.is_final
        self.size -= item.size
