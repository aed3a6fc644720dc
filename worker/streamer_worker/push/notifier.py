"""From a message to all who want it: whom to tell, and one outbox for each connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, Self

import anyio
from anyio import AsyncContextManagerMixin
from anyio.abc import TaskGroup
from cachetools import LRUCache

from streamer_store import (
    Clock,
    Connection,
    ConnectionStore,
    EventType,
    StoreError,
    SubscriptionStore,
)
from streamer_worker.events import (
    ConnectionSuspended,
    EndpointRefused,
    Events,
    PushTried,
    StepFailed,
)
from streamer_worker.push.endpoints import url_of
from streamer_worker.push.errors import Gone, PushFailed, PushRefused
from streamer_worker.push.messages import Message, encode
from streamer_worker.push.outbox import Delivery, FailureStreak, Outbox
from streamer_worker.push.recipients import Recipients
from streamer_worker.retry import backoff
from streamer_worker.settings import NotifierSettings

if TYPE_CHECKING:
    import random

REST: Final = 30.0
GIVE_UP_AFTER: Final = 60.0
_MOST: Final = 10_000
_PROGRESS_EVERY: Final = 0.1
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0


class Post(Protocol):
    async def __call__(self, url: str, connection_id: str, data: bytes) -> None:
        """Raises Gone; PushFailed."""
        ...


@dataclass(slots=True)
class _Topic:
    """What is to be told of one request: its newest progress, or its end. `ended` is set when
    that is there; `rests` is whether nothing else is worth doing now.
    """

    progress: Message | None = None
    end: Message | None = None
    ended: anyio.Event = field(default_factory=anyio.Event)
    suspended: bool = False

    def take(self) -> Message | None:
        message, self.progress, self.end = self.end or self.progress, None, None
        return message


class Notifier(AsyncContextManagerMixin):
    """A context, which gives up what is under way when it ends. `offer` neither waits nor
    raises; nothing that a connection does delays another one.
    """

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        subscriptions: SubscriptionStore,
        post: Post,
        settings: NotifierSettings,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._recipients = Recipients(
            connections=connections,
            subscriptions=subscriptions,
            events=events,
            clock=clock,
            rng=rng,
        )
        self._post = post
        self._settings = settings
        self._events = events
        self._clock = clock
        self._rng = rng
        self._topics: dict[str, _Topic] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._records: LRUCache[str, FailureStreak] = LRUCache(_MOST)
        self._posts = anyio.CapacityLimiter(settings.max_concurrent_posts)
        # Those that failed lately wait for each other, not the others for them.
        self._degraded = anyio.CapacityLimiter(max(1, settings.max_concurrent_posts // 10))
        self._next_progress = clock.steady()
        self._changed = anyio.Event()
        self._tasks: TaskGroup

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with anyio.create_task_group() as self._tasks:
            yield self
            self._tasks.cancel_scope.cancel()

    def offer(self, message: Message) -> None:
        """Take a message. Newer progress replaces older; an end replaces both."""
        topic = self._topics.get(message.request_id)
        if topic is None:
            if len(self._topics) >= _most_for(message):
                self._tell(message, "dropped")
                return
            topic = self._topics[message.request_id] = _Topic()
            self._tasks.start_soon(self._follow, message.request_id, topic)
        if message.type is EventType.PROGRESS:
            if topic.end is not None:
                return
            topic.progress = message
        else:
            topic.progress, topic.end = None, message
            topic.ended.set()
            topic.suspended = False

    async def flush(self, seconds: float) -> None:
        """Wait, at most so long, until all that was offered has been tried."""
        with anyio.move_on_after(seconds):
            while not (
                all(each.suspended for each in self._topics.values())
                and all(each.tried for each in self._outboxes.values())
            ):
                changed = self._changed
                await changed.wait()

    async def _follow(self, request_id: str, topic: _Topic) -> None:
        """Hand each message of a request to the outboxes of those who want it."""
        try:
            while (message := topic.take()) is not None:
                told = await self._hand_over(message)
                if message.type is EventType.PROGRESS:
                    await self._rest(topic, told)
        finally:
            del self._topics[request_id]
            self._tell_changed()

    async def _hand_over(self, message: Message) -> int:
        """Put a message into the outboxes, and return into how many."""
        try:
            data = encode(message)
            connections = await self._recipients.of(message, self._tasks)
            for connection in connections:
                self._put(connection, message, data)
        except StoreError as error:
            self._tell(message, "unresolved", type(error).__name__)
        except Exception as error:  # noqa: BLE001  other requests are told all the same
            self._events.emit(StepFailed(loop="push", error=error))
        else:
            return len(connections)
        return 0

    async def _rest(self, topic: _Topic, told: int) -> None:
        """Take no newer progress until that many can have had this one, or the end has come."""
        topic.suspended = True
        self._tell_changed()
        with anyio.move_on_after(max(_PROGRESS_EVERY, told / self._settings.progress_rate)):
            await topic.ended.wait()
        topic.suspended = False

    def _put(self, connection: Connection, message: Message, data: bytes) -> None:
        outbox = self._outboxes.get(connection.connection_id)
        if outbox is None:
            if len(self._outboxes) >= _most_for(message):
                self._tell(message, "dropped")
                return
            outbox = self._outboxes[connection.connection_id] = Outbox(connection)
            self._tasks.start_soon(self._empty, outbox)
        letter = Delivery(message, data, self._clock.steady() + GIVE_UP_AFTER)
        for each in outbox.put(letter):
            self._tell(each.message, "dropped")

    async def _empty(self, outbox: Outbox) -> None:
        """Post what is in an outbox, one after the other, until nothing is."""
        connection_id = outbox.connection.connection_id
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
        try:
            while (first := outbox.first()) is not None:
                if not first.is_final:
                    await self._keep_pace(outbox)
                code = await self._send(outbox)
                if code is None:
                    pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
                    continue
                suspended = self._has_failed(connection_id, code)
                outbox.tried = True
                self._tell_changed()
                await anyio.sleep(REST if suspended else next(pauses))
        except Exception as error:  # noqa: BLE001  other connections are told all the same
            self._events.emit(StepFailed(loop="push", error=error))
        finally:
            del self._outboxes[connection_id]
            self._tell_changed()

    async def _send(self, outbox: Outbox) -> str | None:
        """Post the first letter; return how that failed, if another time may be better."""
        connection_id = outbox.connection.connection_id
        degraded = connection_id in self._records
        try:
            async with self._degraded if degraded else self._posts:
                letter = outbox.first()  # by now it may be another
                return None if letter is None else await self._try_post(outbox, letter)
        except Gone:
            # After the limiter: the removal waits for the table, and posts must not wait for it.
            self._records.pop(connection_id, None)
            self._give_up(outbox, "gone")
            await self._recipients.remove_connection(connection_id)
        return None

    async def _try_post(self, outbox: Outbox, letter: Delivery) -> str | None:
        """As `_send`. Raises Gone."""
        connection_id = outbox.connection.connection_id
        try:
            await self._post_in_time(outbox.connection, letter.data)
        except PushRefused as error:
            event = EndpointRefused(connection_id=connection_id, reason=str(error))
            self._events.emit(event)
            self._give_up(outbox, "refused")
        except Gone:
            if not self._recipients.is_fresh(outbox.connection.connected_at):
                raise
            return self._failed(outbox, letter, "410")
        except PushFailed as error:
            return self._failed(outbox, letter, error.code)
        except Exception as error:  # noqa: BLE001  a client may raise anything for a bad answer
            self._events.emit(StepFailed(loop="push", error=error))
            return self._failed(outbox, letter, type(error).__name__)
        else:
            self._records.pop(connection_id, None)
            outbox.done(letter)
            self._tell(letter.message, "sent")
        return None

    def _give_up(self, outbox: Outbox, outcome: str) -> None:
        for each in outbox.empty():
            self._tell(each.message, outcome)

    async def _post_in_time(self, connection: Connection, data: bytes) -> None:
        url = url_of(connection.endpoint, self._settings.hosts)
        with anyio.move_on_after(self._settings.timeout) as scope:
            await self._post(url, connection.connection_id, data)
        if scope.cancelled_caught:
            raise PushFailed("timeout")

    async def _keep_pace(self, outbox: Outbox) -> None:
        """Wait until it is this progress's turn, or an end has come: that is not held up."""
        now = self._clock.steady()
        turn = max(now, self._next_progress)
        self._next_progress = turn + 1 / self._settings.progress_rate
        with anyio.move_on_after(turn - now):
            await outbox.urgent.wait()

    def _failed(self, outbox: Outbox, letter: Delivery, code: str) -> str:
        """Ends are kept, to be tried again for a while."""
        if not letter.is_final or self._clock.steady() >= letter.until:
            outbox.done(letter)
        self._tell(letter.message, "failed", code)
        return code

    def _has_failed(self, connection_id: str, code: str) -> bool:
        """Note a failure; return whether the connection rests for a while."""
        record = self._records.setdefault(connection_id, FailureStreak())
        rested = record.suspended
        record.failures += 1
        if record.suspended and not rested:
            self._events.emit(ConnectionSuspended(connection_id=connection_id, code=code))
        return record.suspended

    def _tell(self, message: Message, outcome: str, code: str | None = None) -> None:
        self._events.emit(PushTried(type=message.type.value, outcome=outcome, code=code))

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def _most_for(message: Message) -> int:
    """Return how many requests, or connections, may wait for one like this to be taken in.
    Half of the places are kept for ends.
    """
    return _MOST // 2 if message.type is EventType.PROGRESS else _MOST
