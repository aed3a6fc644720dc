"""The ordered messages whose recipients are not determined yet, by request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from streamer_worker.changes import Changes
from streamer_worker.push.messages import Message
from streamer_worker.push.topics import Distribute

# Seconds for which the final message of a request waits for its ordered messages (PUSH-4).
FINAL_WAITS_FOR: Final = 2.0


@dataclass(slots=True, eq=False)
class _Waiting:
    """The messages of one request, in their order. `done`: there are none any more."""

    messages: deque[Message]
    done: anyio.Event = field(default_factory=anyio.Event)


class OrderedMessages:
    """Distributes the ordered messages of each request one after another: handlers' own, and
    progress that nothing replaces.

    The final message of a request waits until they are distributed, for FINAL_WAITS_FOR seconds
    at most. Not thread-safe.

    offer_final: gets final messages that have waited.
    drop_if_old: returns whether a message is given up instead, and reports that.
    size: the bytes of memory of the messages that wait.
    """

    def __init__(
        self,
        *,
        distribute: Distribute,
        offer_final: Callable[[Message], None],
        drop_if_old: Callable[[Message], bool],
        changes: Changes,
    ) -> None:
        self._distribute = distribute
        self._offer_final = offer_final
        self._drop_if_old = drop_if_old
        self._changes = changes
        self._requests: dict[str, _Waiting] = {}
        self._count = 0
        self.size = 0

    def __len__(self) -> int:
        """Return the number of messages that wait."""
        return self._count

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._requests

    def offer(self, message: Message, tasks: TaskGroup) -> None:
        """Add an ordered message, or the final message of a request that has some here."""
        self.size += message.size
        self._count += 1
        waiting = self._requests.get(message.request_id)
        if message.is_final:
            assert waiting is not None  # noqa: S101
            tasks.start_soon(self._hold_back, message, waiting)
        elif waiting is None:
            waiting = self._requests[message.request_id] = _Waiting(deque([message]))
            tasks.start_soon(self._run, message.request_id, waiting)
        else:
            waiting.messages.append(message)

    async def _run(self, request_id: str, waiting: _Waiting) -> None:
        """Distribute the messages of a request, until there are none."""
        while waiting.messages:
            message = waiting.messages[0]
            if not self._drop_if_old(message):
                await self._distribute(message, may_be_subscribed=True)
            await checkpoint()  # the recipients may be known, so that nothing has waited
            waiting.messages.popleft()
            self._count_off(message)
        del self._requests[request_id]
        waiting.done.set()
        self._changes.notify()

    async def _hold_back(self, final: Message, waiting: _Waiting) -> None:
        with anyio.move_on_after(FINAL_WAITS_FOR):
            await waiting.done.wait()
        self._count_off(final)
        self._offer_final(final)
        self._changes.notify()

    def _count_off(self, message: Message) -> None:
        self._count -= 1
        self.size -= message.size
