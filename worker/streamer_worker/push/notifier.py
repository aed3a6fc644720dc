"""From a message to all who want it: whom to tell, and one outbox for each connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import anyio
from anyio import AsyncContextManagerMixin
from anyio.abc import TaskGroup
from cachetools import LRUCache, TTLCache

from streamer_store import (
    Clock,
    Connection,
    ConnectionStore,
    EventType,
    NotFound,
    StoreError,
    Subscription,
    SubscriptionStore,
)
from streamer_worker.events import (
    ConnectionGone,
    ConnectionRests,
    EndpointRefused,
    Events,
    PushTried,
    StepFailed,
)
from streamer_worker.push.endpoints import url_of
from streamer_worker.push.errors import Gone, PushFailed, PushRefused
from streamer_worker.push.messages import Message, encode
from streamer_worker.push.outbox import Letter, Outbox, Record
from streamer_worker.retry import backoff
from streamer_worker.settings import NotifierSettings

if TYPE_CHECKING:
    import random

REST: Final = 30.0
TRIED_FOR: Final = 60.0
# API Gateway answers 410 for a connection whose $connect has not returned yet.
FRESH: Final = 10.0
_REMEMBERED_FOR: Final = 5.0
_MOST: Final = 10_000
_LOOKS_AT_ONCE: Final = 20
_LOOKS: Final = 5
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0


class Post(Protocol):
    async def __call__(self, url: str, connection_id: str, data: bytes) -> None:
        """Raises Gone; PushFailed."""
        ...


@dataclass(slots=True)
class _Topic:
    """What is to be told of one request: its newest progress, or its end."""

    progress: Message | None = None
    end: Message | None = None

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
        self._connections = connections
        self._subscriptions = subscriptions
        self._post = post
        self._settings = settings
        self._events = events
        self._clock = clock
        self._rng = rng
        self._topics: dict[str, _Topic] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._records: LRUCache[str, Record] = LRUCache(_MOST)
        self._listeners: TTLCache[str, list[Connection]] = TTLCache(
            _MOST, _REMEMBERED_FOR, timer=clock.steady
        )
        self._looks = anyio.CapacityLimiter(_LOOKS_AT_ONCE)
        self._posts = anyio.CapacityLimiter(settings.at_once)
        # Those that failed lately wait for each other, not the others for them.
        self._doubtful = anyio.CapacityLimiter(max(1, settings.at_once // 10))
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
            if len(self._topics) >= _MOST:
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

    async def flush(self, seconds: float) -> None:
        """Wait, at most so long, until all that was offered has been tried."""
        with anyio.move_on_after(seconds):
            while self._topics or not all(each.tried for each in self._outboxes.values()):
                changed = self._changed
                await changed.wait()

    async def _follow(self, request_id: str, topic: _Topic) -> None:
        """Hand each message of a request to the outboxes of those who want it."""
        try:
            while (message := topic.take()) is not None:
                data = encode(message)
                for connection in await self._wanting(message):
                    self._put(connection, message, data)
        except Exception as error:  # noqa: BLE001  other requests are told all the same
            self._events.emit(StepFailed(loop="push", error=error))
        finally:
            del self._topics[request_id]
            self._tell_changed()

    async def _wanting(self, message: Message) -> list[Connection]:
        """Return who wants it. Ends are worth some tries, and a look at who wants them now."""
        final = message.type is not EventType.PROGRESS
        known = None if final else self._listeners.get(message.request_id)
        if known is not None:
            return known
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
        for look in range(_LOOKS if final else 1):
            if look:
                await anyio.sleep(next(pauses))
            try:
                async with self._looks:
                    found = await self._look(message)
            except StoreError:
                continue
            if not final:
                self._listeners[message.request_id] = found
            return found
        self._tell(message, "unresolved")
        return []

    async def _look(self, message: Message) -> list[Connection]:
        subscribed = await self._subscriptions.get_by_request(message.request_id)
        wanted = {each.connection_id: message.type in each.event_types for each in subscribed}
        if message.connection_id:
            wanted.setdefault(message.connection_id, True)
        ids = [connection_id for connection_id, wants in wanted.items() if wants]
        found = await self._connections.get_many(ids)
        for each in subscribed:
            if wanted[each.connection_id] and each.connection_id not in found:
                self._tasks.start_soon(self._forget, each)
        return list(found.values())

    async def _forget(self, orphan: Subscription) -> None:
        """Remove what a connection has left; of a new one the row may be about to come."""
        if self._is_fresh(orphan.created_at):
            return
        async with self._looks:
            try:
                await self._connections.get(orphan.connection_id)
            except NotFound:
                await self._bury(orphan.connection_id)
            except StoreError:
                return

    def _put(self, connection: Connection, message: Message, data: bytes) -> None:
        outbox = self._outboxes.get(connection.connection_id)
        if outbox is None:
            if len(self._outboxes) >= _MOST:
                self._tell(message, "dropped")
                return
            outbox = self._outboxes[connection.connection_id] = Outbox(connection)
            self._tasks.start_soon(self._empty, outbox)
        letter = Letter(message, data, self._clock.steady() + TRIED_FOR)
        for each in outbox.put(letter):
            self._tell(each.message, "dropped")

    async def _empty(self, outbox: Outbox) -> None:
        """Post what is in an outbox, one after the other, until nothing is."""
        connection_id = outbox.connection.connection_id
        try:
            pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
            while (letter := outbox.first()) is not None:
                failed = await self._send(outbox, letter)
                if failed is None:
                    pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
                    continue
                rests = self._has_failed(connection_id, failed)
                if not letter.is_final or self._clock.steady() >= letter.until:
                    outbox.done(letter)
                outbox.tried = True
                self._tell_changed()
                await anyio.sleep(REST if rests else next(pauses))
        except Exception as error:  # noqa: BLE001  other connections are told all the same
            self._events.emit(StepFailed(loop="push", error=error))
        finally:
            del self._outboxes[connection_id]
            self._tell_changed()

    async def _send(self, outbox: Outbox, letter: Letter) -> PushFailed | None:
        """Post a letter; return how that failed, if another time may be better."""
        connection = outbox.connection
        record = self._records.get(connection.connection_id)
        try:
            url = url_of(connection.endpoint, self._settings.hosts)
            if not letter.is_final:
                await self._keep_pace(outbox)
            async with self._doubtful if record is not None else self._posts:
                if letter is not outbox.first():
                    return None  # a newer one has come while this one waited
                await self._post_in_time(url, connection.connection_id, letter.data)
        except PushRefused as error:
            event = EndpointRefused(connection_id=connection.connection_id, reason=str(error))
            self._events.emit(event)
            for each in outbox.empty():
                self._tell(each.message, "refused")
        except Gone:
            if self._is_fresh(connection.connected_at):
                return self._failed(letter, PushFailed("410", "gone, and only just connected"))
            for each in outbox.empty():
                self._tell(each.message, "gone")
            await self._bury(connection.connection_id)
        except PushFailed as error:
            return self._failed(letter, error)
        else:
            self._records.pop(connection.connection_id, None)
            outbox.done(letter)
            self._tell(letter.message, "sent")
        return None

    async def _post_in_time(self, url: str, connection_id: str, data: bytes) -> None:
        with anyio.move_on_after(self._settings.timeout) as scope:
            await self._post(url, connection_id, data)
        if scope.cancelled_caught:
            raise PushFailed("timeout")

    async def _keep_pace(self, outbox: Outbox) -> None:
        """Wait until it is this progress's turn, or an end has come: that is not held up."""
        now = self._clock.steady()
        turn = max(now, self._next_progress)
        self._next_progress = turn + 1 / self._settings.progress_rate
        with anyio.move_on_after(turn - now):
            await outbox.urgent.wait()

    def _failed(self, letter: Letter, error: PushFailed) -> PushFailed:
        self._tell(letter.message, "failed", error.code)
        return error

    def _has_failed(self, connection_id: str, error: PushFailed) -> bool:
        """Note a failure; return whether the connection rests for a while."""
        record = self._records.setdefault(connection_id, Record())
        rested = record.rests
        record.failures += 1
        if record.rests and not rested:
            self._events.emit(ConnectionRests(connection_id=connection_id, code=error.code))
        return record.rests

    async def _bury(self, connection_id: str) -> None:
        self._records.pop(connection_id, None)
        try:
            await self._connections.delete(connection_id)
            removed = await self._subscriptions.delete_by_connection(connection_id)
        except StoreError as error:  # whoever tells it next tries again
            self._events.emit(StepFailed(loop="push", error=error))
        else:
            event = ConnectionGone(connection_id=connection_id, subscriptions=removed)
            self._events.emit(event)

    def _is_fresh(self, since: Any) -> bool:
        return since is not None and (self._clock.now() - since).total_seconds() < FRESH

    def _tell(self, message: Message, outcome: str, code: str | None = None) -> None:
        self._events.emit(PushTried(type=message.type.value, outcome=outcome, code=code))

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
