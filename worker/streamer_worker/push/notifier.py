"""Determines the recipients of each message, and has it delivered to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Self

import anyio
from anyio import AsyncContextManagerMixin
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from streamer_store import ConnectionStore, StoreError, SubscriptionStore
from streamer_worker.changes import Changes
from streamer_worker.events import StepFailed
from streamer_worker.push.deliveries import Deliveries, Post
from streamer_worker.push.endpoints import AllowedEndpoints
from streamer_worker.push.limits import capacity_for, max_size_for
from streamer_worker.push.message_queue import MessageKind
from streamer_worker.push.messages import HandlerMessage, Message, encode
from streamer_worker.push.ordered_messages import OrderedMessages
from streamer_worker.push.outbox import Encoded
from streamer_worker.push.recipients import MOST_OF_A_BROADCAST, Recipients
from streamer_worker.push.subscription_check import SubscriptionCheck
from streamer_worker.push.topics import Topics
from streamer_worker.runtime import Runtime
from streamer_worker.settings import NotifierSettings

# A message is put into so many outboxes before other tasks run.
_PUTS_AT_ONCE: Final = 100


class Notifier(AsyncContextManagerMixin):
    """Pushes the messages that are offered to it, while its context is open.

    A message passes two stages. The Topics, or the OrderedMessages, determine its recipients. The
    Deliveries post it to each of them.

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
        self._recipients = Recipients(
            connections=connections,
            subscriptions=subscriptions,
            runtime=runtime,
        )
        self._events = runtime.events
        self._changes = Changes()
        self._deliveries = Deliveries(
            post=post,
            endpoints=AllowedEndpoints(settings.allowed_hosts, endpoint),
            recipients=self._recipients,
            settings=settings,
            runtime=runtime,
            changes=self._changes,
        )
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
            drop_if_old=self._deliveries.drop_if_old,
            changes=self._changes,
        )
        self._tasks: TaskGroup

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with anyio.create_task_group() as self._tasks:
            self._deliveries.start(self._tasks)
            yield self
            self._tasks.cancel_scope.cancel()

    def offer(self, message: Message) -> None:
        """Accept a message. Neither waits nor raises.

        Newer progress of a request replaces older progress, a final message replaces both. A
        message is dropped if too many requests, or too many bytes, wait.
        """
        ordered = self._ordered
        if message.kind is MessageKind.ORDERED:
            if len(ordered) >= capacity_for(message) or ordered.size >= max_size_for(message):
                self._deliveries.emit_tried(message, "dropped")
            else:
                ordered.offer(message, self._tasks)
        elif message.is_final and message.request_id in ordered:
            ordered.offer(message, self._tasks)
        else:
            self._offer_to_topics(message)

    def _offer_to_topics(self, message: Message) -> None:
        if self._topics.size >= max_size_for(message) or (
            message.request_id not in self._topics and len(self._topics) >= capacity_for(message)
        ):
            self._deliveries.emit_tried(message, "dropped")
        else:
            self._topics.offer(message, self._tasks)

    async def flush(self, seconds: float) -> None:
        """Wait until every message has been tried once, for `seconds` at most."""
        with anyio.move_on_after(seconds):
            while not (
                self._topics.all_suspended and not self._ordered and self._deliveries.all_tried
            ):
                await self._changes.wait()

    async def _put_into_outboxes(self, message: Message, *, may_be_subscribed: bool) -> int:
        """Put a message into the outboxes of its recipients, and return their number."""
        try:
            connections = await self._recipients.of(
                message, self._tasks, may_be_subscribed=may_be_subscribed
            )
            if isinstance(message, HandlerMessage) and len(connections) > MOST_OF_A_BROADCAST:
                self._deliveries.emit_tried(message, "dropped", "too_many_connections")
                connections = connections[:MOST_OF_A_BROADCAST]
            encoded = Encoded(encode(message) if connections else b"")
            for number, connection in enumerate(connections, start=1):
                self._deliveries.put(connection, message, encoded)
                if number % _PUTS_AT_ONCE == 0:
                    await checkpoint()
        except StoreError as error:
            self._deliveries.emit_tried(message, "unresolved", type(error).__name__)
        except Exception as error:  # noqa: BLE001  the messages of other requests are delivered
            self._events.emit(StepFailed(loop="push", error=error))
        else:
            return len(connections)
        return 0
