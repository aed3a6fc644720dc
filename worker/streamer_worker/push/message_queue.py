"""The messages that wait for delivery, without those that newer ones replace (pure)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar


class MessageKind(Enum):
    """What may happen to a message that waits.

    FINAL: the end of a request. It is the last to be dropped.
    ORDERED: a handler's own, or progress that nothing replaces. It is kept in its order.
    PROGRESS: newer progress of its request replaces it, and so does a final message.
    """

    FINAL = auto()
    ORDERED = auto()
    PROGRESS = auto()


class _Queued(Protocol):
    """A message, or an object that holds one."""

    @property
    def request_id(self) -> str: ...

    @property
    def kind(self) -> MessageKind: ...

    @property
    def size(self) -> int:
        """Bytes of memory, the same at each call."""
        ...


Item = TypeVar("Item", bound=_Queued)


class MessageQueue(Generic[Item]):
    """Holds final and ordered messages in their order, and the newest other progress of each
    request.

    It has no bounds of its own: the owner calls `pop`. It has no lock.

    size: the bytes of memory of all items.
    ordered_size: those of the ordered ones.
    """

    def __init__(self) -> None:
        self._finals: deque[Item] = deque()
        self._ordered: deque[Item] = deque()
        self._progress: dict[str, Item] = {}
        self._last: MessageKind | None = None
        self.size = 0
        self.ordered_size = 0

    def __len__(self) -> int:
        return len(self._finals) + len(self._ordered) + len(self._progress)

    def count(self, kind: MessageKind) -> int:
        """Return how many items of a kind wait."""
        match kind:
            case MessageKind.FINAL:
                return len(self._finals)
            case MessageKind.ORDERED:
                return len(self._ordered)
            case MessageKind.PROGRESS:
                return len(self._progress)

    def put(self, item: Item) -> Item | None:
        """Add an item at the end. Return the progress of its request that it replaces, if any."""
        replaced = None
        match item.kind:
            case MessageKind.FINAL:
                replaced = self._progress.pop(item.request_id, None)
                self._finals.append(item)
            case MessageKind.ORDERED:
                self._ordered.append(item)
                self.ordered_size += item.size
            case MessageKind.PROGRESS:
                replaced = self._progress.pop(item.request_id, None)
                self._progress[item.request_id] = item
        self.size += item.size - (replaced.size if replaced is not None else 0)
        return replaced

    def first(self, overtakes: Callable[[Item], bool]) -> Item | None:
        """Return the item to deliver next, None if there is none.

        1. The oldest final item. The ordered items of its request go before it, one after another,
           unless it `overtakes` them.
        2. Without a final item: the oldest ordered item and the oldest progress, in turns.
        """
        if self._finals:
            final = self._finals[0]
            if self._ordered and not overtakes(final):
                same = (item for item in self._ordered if item.request_id == final.request_id)
                return next(same, final)
            return final
        progress = next(iter(self._progress.values()), None)
        if self._ordered and (progress is None or self._last is not MessageKind.ORDERED):
            return self._ordered[0]
        return progress

    def oldest_ordered(self) -> Item | None:
        """Return the oldest ordered item, None if there is none."""
        return self._ordered[0] if self._ordered else None

    def pop(self, kind: MessageKind) -> Item:
        """Remove and return the oldest item of a kind. There must be one."""
        match kind:
            case MessageKind.FINAL:
                item = self._finals.popleft()
            case MessageKind.ORDERED:
                item = self._ordered.popleft()
            case MessageKind.PROGRESS:
                item = self._progress.pop(next(iter(self._progress)))
        self._count_removed(item)
        return item

    def discard(self, item: Item) -> bool:
        """Remove this very item. Return whether it was still in the queue."""
        self._last = item.kind
        if item.kind is MessageKind.PROGRESS:
            if self._progress.get(item.request_id) is not item:
                return False
            del self._progress[item.request_id]
        else:
            items = self._finals if item.kind is MessageKind.FINAL else self._ordered
            if item not in items:
                return False
            items.remove(item)
        self._count_removed(item)
        return True

    def ordered_of(self, request_id: str) -> list[Item]:
        """Return the ordered items of a request, which stay in the queue."""
        return [item for item in self._ordered if item.request_id == request_id]

    def pop_all(self) -> list[Item]:
        """Remove and return all items, final ones last: what is older than the final message of
        its request must not come after it.
        """
        items = [*self._progress.values(), *self._ordered, *self._finals]
        self._progress.clear()
        self._ordered.clear()
        self._finals.clear()
        self.size = self.ordered_size = 0
        return items

    def _count_removed(self, item: Item) -> None:
        self.size -= item.size
        if item.kind is MessageKind.ORDERED:
            self.ordered_size -= item.size
