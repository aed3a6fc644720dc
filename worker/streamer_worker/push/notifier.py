"""Delivers each message to its recipients, with one outbox for each connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Protocol, Self

import anyio
from anyio import AsyncContextManagerMixin
from anyio.abc import TaskGroup
from cachetools import LRUCache

from streamer_store import Connection, ConnectionStore, StoreError, SubscriptionStore
from streamer_worker.changes import Changes
from streamer_worker.events import (
    ConnectionSuspended,
    EndpointRefused,
    PushTried,
    StepFailed,
)
from streamer_worker.push.endpoints import AllowedEndpoints
from streamer_worker.push.errors import Gone, PushFailed, PushRefused
from streamer_worker.push.message_queue import Lane
from streamer_worker.push.messages import Message, encode
from streamer_worker.push.ordered_messages import OrderedMessages
from streamer_worker.push.outbox import Delivery, Encoded, FailureStreak, Outbox, WaitingBytes
from streamer_worker.push.pace import Pace
from streamer_worker.push.recipients import MOST_OF_A_BROADCAST, Recipients
from streamer_worker.push.subscription_check import SubscriptionCheck
from streamer_worker.push.topics import Topics
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime
from streamer_worker.settings import NotifierSettings

# Seconds.
SUSPENDED_FOR: Final = 30.0
GIVE_UP_AFTER: Final = 60.0
# A handler's own message is dropped after this time, and its request's outcome waits no longer
# for it than this.
MESSAGE_GIVE_UP_AFTER: Final = 30.0
OUTCOME_WAITS_FOR: Final = 2.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
# Requests, and connections, that may have messages waiting.
_MOST: Final = 10_000
# Bytes of memory of the messages whose recipients are not determined, and again of the encoded
# messages in the outboxes.
_MAX_SIZE: Final = 32_000_000


class Post(Protocol):
    """Posts to connections: the management API of API Gateway, or a test."""

    async def __call__(self, url: str, connection_id: str, data: bytes) -> None:
        """Post `data` to a connection of the API at `url`.

        Raises Gone if the connection is closed, and PushFailed if the post may succeed later.
        """
        ...


class Notifier(AsyncContextManagerMixin):
    """Pushes the messages that are offered to it, while its context is open.

    A message passes two stages. The Topics, or the OrderedMessages, determine its recipients and
    put it into their outboxes. A task for each connection posts what is in its outbox, one message
    after another. So a slow connection delays no other connection. A final message is tried again
    for GIVE_UP_AFTER seconds, a message of a handler for MESSAGE_GIVE_UP_AFTER, progress is not.

    Not thread-safe: all methods are called on the event loop that entered the context. Leaving
    the context cancels the deliveries under way: call `flush` before.
    """

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        subscriptions: SubscriptionStore,
        post: Post,
        settings: NotifierSettings,
        runtime: Runtime,
        endpoint: str | None = None,
    ) -> None:
        """Create a notifier. `endpoint`: posts to this one, whatever endpoint a connection has."""
        self._endpoints = AllowedEndpoints(settings.allowed_hosts, endpoint)
        self._recipients = Recipients(
            connections=connections,
            subscriptions=subscriptions,
            runtime=runtime,
        )
        self._post = post
        self._settings = settings
        self._events = runtime.events
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._changes = Changes()
        self._topics = Topics(
            recipients=self._recipients,
            check=SubscriptionCheck(subscriptions=subscriptions, runtime=runtime),
            distribute=self._put_into_outboxes,
            progress_rate=settings.progress_rate,
            changes=self._changes,
        )
        self._ordered = OrderedMessages(
            distribute=self._put_into_outboxes,
            offer_final=self._offer_to_topics,
            changes=self._changes,
        )
        self._outboxes: dict[str, Outbox] = {}
        self._waiting = WaitingBytes()
        # Connections whose last post has failed.
        self._streaks: LRUCache[str, FailureStreak] = LRUCache(_MOST)
        self._posts = anyio.CapacityLimiter(settings.max_concurrent_posts)
        # Posts to those connections have their own limit, so that they do not delay others.
        self._degraded = anyio.CapacityLimiter(max(1, settings.max_concurrent_posts // 10))
        self._paces = {
            Lane.PROGRESS: Pace(settings.progress_rate, self._clock.steady),
            Lane.ORDERED: Pace(settings.message_rate, self._clock.steady),
        }
        self._tasks: TaskGroup

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with anyio.create_task_group() as self._tasks:
            yield self
            self._tasks.cancel_scope.cancel()

    def offer(self, message: Message) -> None:
        """Accept a message. Neither waits nor raises.

        Newer progress of a request replaces older progress, a final message replaces both. A
        message is dropped if too many requests, or too many bytes, wait.
        """
        own = self._ordered
        if message.lane is Lane.ORDERED:
            if len(own) >= _capacity_for(message) or own.size >= _max_size_for(message):
                self._emit_tried(message, "dropped")
            else:
                own.offer(message, self._tasks)
        elif message.is_final and message.request_id in own:
            own.offer(message, self._tasks)
        else:
            self._offer_to_topics(message)

    def _offer_to_topics(self, message: Message) -> None:
        if self._topics.size >= _max_size_for(message) or (
            message.request_id not in self._topics and len(self._topics) >= _capacity_for(message)
        ):
            self._emit_tried(message, "dropped")
        else:
            self._topics.offer(message, self._tasks)

    async def flush(self, seconds: float) -> None:
        """Wait until every message has been tried once, for `seconds` at most."""
        with anyio.move_on_after(seconds):
            while not (
                self._topics.all_suspended
                and not self._ordered
                and all(outbox.tried for outbox in self._outboxes.values())
            ):
                await self._changes.wait()

    async def _put_into_outboxes(self, message: Message, *, may_be_subscribed: bool) -> int:
        """Put a message into the outboxes of its recipients, and return their number."""
        try:
            connections = await self._recipients.of(
                message, self._tasks, may_be_subscribed=may_be_subscribed
            )
            encoded = Encoded(encode(message) if connections else b"")
            for connection in connections:
                self._put(connection, message, encoded)
        except StoreError as error:
            self._emit_tried(message, "unresolved", type(error).__name__)
        except Exception as error:  # noqa: BLE001  the messages of other requests are delivered
            self._events.emit(StepFailed(loop="push", error=error))
        else:
            if message.lane is Lane.ORDERED and len(connections) == MOST_OF_A_BROADCAST:
                self._emit_tried(message, "dropped", "too_many_connections")
            return len(connections)
        return 0

    def _put(self, connection: Connection, message: Message, encoded: Encoded) -> None:
        if not encoded.deliveries and self._waiting.size >= _max_size_for(message):
            self._emit_tried(message, "dropped")
            return
        outbox = self._outboxes.get(connection.connection_id)
        if outbox is None:
            if len(self._outboxes) >= _capacity_for(message):
                self._emit_tried(message, "dropped")
                return
            outbox = self._outboxes[connection.connection_id] = Outbox(connection, self._waiting)
            self._tasks.start_soon(self._deliver, outbox)
        now = self._clock.steady()
        tries = MESSAGE_GIVE_UP_AFTER if message.lane is Lane.ORDERED else GIVE_UP_AFTER
        delivery = Delivery(
            type=message.type,
            lane=message.lane,
            request_id=message.request_id,
            encoded=encoded,
            overtakes_at=now + OUTCOME_WAITS_FOR,
            give_up_at=now + tries,
        )
        for dropped in outbox.put(delivery):
            self._emit_tried(dropped, "dropped")

    async def _deliver(self, outbox: Outbox) -> None:
        """Post the messages of an outbox, one after another, until it is empty."""
        connection_id = outbox.connection.connection_id
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
        try:
            while (delivery := self._first(outbox)) is not None:
                if delivery.lane in self._paces:
                    await self._paces[delivery.lane].wait(outbox.urgent)
                code = await self._post_first(outbox)
                if code is None:
                    pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
                    continue
                suspended = self._count_failure(connection_id, code)
                outbox.tried = True
                self._changes.notify()
                await anyio.sleep(SUSPENDED_FOR if suspended else next(pauses))
        except Exception as error:  # noqa: BLE001  deliveries to other connections continue
            self._events.emit(StepFailed(loop="push", error=error))
        finally:
            outbox.pop_all()  # after an error: for the count of bytes
            del self._outboxes[connection_id]
            self._changes.notify()

    def _first(self, outbox: Outbox) -> Delivery | None:
        """Return the delivery to post next. Messages of handlers that are too old are dropped."""
        now = self._clock.steady()
        for expired in outbox.pop_expired(now):
            self._emit_tried(expired, "dropped")
        return outbox.first(now)

    async def _post_first(self, outbox: Outbox) -> str | None:
        """Post the first message. Return the code of a failure after which the connection needs a
        pause, otherwise None.
        """
        connection_id = outbox.connection.connection_id
        degraded = connection_id in self._streaks
        try:
            async with self._degraded if degraded else self._posts:
                delivery = self._first(outbox)  # a newer one may have come meanwhile
                return None if delivery is None else await self._try_post(outbox, delivery)
        except Gone:
            # After the limiter: the removal waits for the table, and posts must not wait for it.
            self._streaks.pop(connection_id, None)
            self._give_up_all(outbox, "gone")
            await self._recipients.remove_connection(connection_id)
        return None

    async def _try_post(self, outbox: Outbox, delivery: Delivery) -> str | None:
        """Post one message. Returns as `_post_first`. Raises Gone."""
        connection_id = outbox.connection.connection_id
        try:
            await self._post_in_time(outbox.connection, delivery.encoded.data)
        except PushRefused as error:
            event = EndpointRefused(connection_id=connection_id, reason=str(error))
            self._events.emit(event)
            self._give_up_all(outbox, "refused")
        except Gone:
            if not self._recipients.is_fresh(outbox.connection.connected_at):
                raise  # PUSH-2: otherwise the connection is kept
            return self._post_failed(outbox, delivery, "410")
        except PushFailed as error:
            return self._post_failed(outbox, delivery, error.code)
        except Exception as error:  # noqa: BLE001  a client may raise anything for a bad answer
            self._events.emit(StepFailed(loop="push", error=error))
            return self._post_failed(outbox, delivery, type(error).__name__)
        else:
            self._streaks.pop(connection_id, None)
            outbox.discard(delivery)
            self._emit_tried(delivery, "sent")
        return None

    def _give_up_all(self, outbox: Outbox, outcome: str) -> None:
        for delivery in outbox.pop_all():
            self._emit_tried(delivery, outcome)

    async def _post_in_time(self, connection: Connection, data: bytes) -> None:
        url = self._endpoints.url_of(connection.endpoint)
        with anyio.move_on_after(self._settings.timeout) as scope:
            await self._post(url, connection.connection_id, data)
        if scope.cancelled_caught:
            raise PushFailed("timeout")

    def _post_failed(self, outbox: Outbox, delivery: Delivery, code: str) -> str:
        """Drop the message, unless it may be tried again. Return `code`."""
        if delivery.lane is Lane.PROGRESS or self._clock.steady() >= delivery.give_up_at:
            outbox.discard(delivery)
        self._emit_tried(delivery, "failed", code)
        return code

    def _count_failure(self, connection_id: str, code: str) -> bool:
        """Count a failure. Return whether the connection is suspended."""
        streak = self._streaks.setdefault(connection_id, FailureStreak())
        was_suspended = streak.suspended
        streak.failures += 1
        if streak.suspended and not was_suspended:
            self._events.emit(ConnectionSuspended(connection_id=connection_id, code=code))
        return streak.suspended

    def _emit_tried(
        self, message: Message | Delivery, outcome: str, code: str | None = None
    ) -> None:
        self._events.emit(PushTried(type=str(message.type), outcome=outcome, code=code))


def _capacity_for(message: Message) -> int:
    """Return how many requests, or connections, may have messages waiting, for one more like this.
    Half of the places are reserved for final messages.
    """
    return _MOST if message.is_final else _MOST // 2


def _max_size_for(message: Message) -> int:
    """Return how many bytes may wait, for one more message like this. As `_capacity_for`."""
    return _MAX_SIZE if message.is_final else _MAX_SIZE // 2
