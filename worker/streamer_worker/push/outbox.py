"""What waits for one connection."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import anyio

from streamer_store import Connection, EventType
from streamer_worker.push.messages import Message

MOST_FINALS: Final = 100
MOST_PROGRESS: Final = 100
_FAILURES: Final = 3


@dataclass(slots=True, eq=False)
class Delivery:
    """A message for a connection; `until` is when it is tried for the last time, by the steady
    clock.
    """

    message: Message
    data: bytes
    until: float

    @property
    def is_final(self) -> bool:
        return self.message.type is not EventType.PROGRESS


@dataclass(slots=True)
class FailureStreak:
    """How posting to a connection went lately."""

    failures: int = 0

    @property
    def suspended(self) -> bool:
        return self.failures >= _FAILURES


@dataclass(slots=True, eq=False)
class Outbox:
    """Ends go first, in order; of each request's progress there is the newest alone. Both are
    bounded, and the oldest are pushed out.

    `tried` is whether what is in it waits for another try; `urgent` is set while there are ends.
    """

    connection: Connection
    tried: bool = False
    urgent: anyio.Event = field(default_factory=anyio.Event)
    _finals: deque[Delivery] = field(default_factory=deque)
    _progress: dict[str, Delivery] = field(default_factory=dict)

    def put(self, letter: Delivery) -> list[Delivery]:
        """Take it in, and return those that it pushed out."""
        request_id = letter.message.request_id
        replaced = self._progress.pop(request_id, None)
        out = [] if replaced is None else [replaced]
        if letter.is_final:
            self._finals.append(letter)
            self.urgent.set()
            if len(self._finals) > MOST_FINALS:
                out.append(self._finals.popleft())
        else:
            self._progress[request_id] = letter
            if len(self._progress) > MOST_PROGRESS:
                out.append(self._progress.pop(next(iter(self._progress))))
        self.tried = False
        return out

    def first(self) -> Delivery | None:
        """Return the one to post next; None when there is none."""
        if self._finals:
            return self._finals[0]
        return next(iter(self._progress.values()), None)

    def done(self, letter: Delivery) -> None:
        """Take it out; it may have been pushed out already."""
        if letter.is_final:
            if letter in self._finals:
                self._finals.remove(letter)
            self._calm()
        elif self._progress.get(letter.message.request_id) is letter:
            del self._progress[letter.message.request_id]

    def empty(self) -> list[Delivery]:
        """Take out all."""
        letters = [*self._finals, *self._progress.values()]
        self._finals.clear()
        self._progress.clear()
        self._calm()
        return letters

    def _calm(self) -> None:
        if not self._finals and self.urgent.is_set():
            self.urgent = anyio.Event()
