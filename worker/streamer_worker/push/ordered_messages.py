"""The ordered messages whose recipients are not determined yet, by request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from anyio.abc import TaskGroup

from streamer_worker.changes import Changes
from streamer_worker.push.messages import Message
from streamer_worker.push.topics import Distribute


class OrderedMessages:
    """Distributes the ordered messages of each request one after another: handlers' own, and
    progress that nothing replaces.

    The final message of a request waits until they are distributed. Not thread-safe.

    offer_final: gets final messages that have waited.
    size: the bytes of memory of the messages that wait.
    """

    def __init__(
        self, *, distribute: Distribute, offer_final: Callable[[Message], None], changes: Changes
    ) -> None:
        self._distribute = distribute
        self._offer_final = offer_final
        self._changes = changes
        self._waiting: dict[str, deque[Message]] = {}
        self._count = 0
        self.size = 0

    def __len__(self) -> int:
        """Return the number of messages that wait."""
        return self._count

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._waiting

    def offer(self, message: Message, tasks: TaskGroup) -> None:
        """Add an ordered message, or the final message of a request that has some here."""
        self.size += message.size
        self._count += 1
        waiting = self._waiting.get(message.request_id)
        if waiting is None:
            self._waiting[message.request_id] = deque([message])
            tasks.start_soon(self._run, message.request_id)
        else:
            waiting.append(message)

    async def _run(self, request_id: str) -> None:
        """Distribute the messages of a request, until there are none."""
        waiting = self._waiting[request_id]
        while waiting:
            message = waiting[0]
            if message.is_final:
                self._offer_final(message)
            else:
                await self._distribute(message, may_be_subscribed=True)
            waiting.popleft()
            self.size -= message.size
            self._count -= 1
        del self._waiting[request_id]
        self._changes.notify()
