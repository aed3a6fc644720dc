"""Finds the connections that want a message, and deletes connections that are closed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import anyio
from anyio.abc import TaskGroup
from cachetools import TTLCache

from streamer_store import (
    Connection,
    ConnectionStore,
    EventType,
    NotFound,
    StoreError,
    Subscription,
    SubscriptionStore,
)
from streamer_worker.events import ConnectionGone, StepFailed
from streamer_worker.push.messages import HandlerMessage, Message
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime

# Seconds. API Gateway answers 410 for a connection whose $connect has not returned yet.
_FRESH: Final = 10.0
# Seconds for which the recipients of progress are cached, and for how many requests.
_CACHED_FOR: Final = 5.0
_CACHED: Final = 10_000
_CONCURRENT_READS: Final = 20
# Connections that get a message of a handler to a user or a tenant.
MOST_OF_A_BROADCAST: Final = 5_000
# One more shows that there are more.
_READ_FOR_A_BROADCAST: Final = MOST_OF_A_BROADCAST + 1
# Reads for a final message, and the pauses between them in seconds.
_TRIES: Final = 5
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0

# A request's id, and its CreatedAt if it has a unique key: the runs of a key share the id.
_Run = tuple[str, datetime | None]


class Recipients:
    """Reads the connections that get a message. Deletes those that are closed.

    Not thread-safe: used only on the event loop of the notifier.
    """

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        subscriptions: SubscriptionStore,
        runtime: Runtime,
    ) -> None:
        self._connections = connections
        self._subscriptions = subscriptions
        self._events = runtime.events
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._cached: TTLCache[_Run, list[Connection]] = TTLCache(
            _CACHED, _CACHED_FOR, timer=self._clock.steady
        )
        # The connections of a request's own, of a user or of a tenant, by kind and id.
        self._addressed: TTLCache[tuple[str, str], list[Connection]] = TTLCache(
            _CACHED, _CACHED_FOR, timer=self._clock.steady
        )
        # Closed connections that may still be in the cache.
        self._gone: TTLCache[str, None] = TTLCache(_CACHED, _CACHED_FOR, timer=self._clock.steady)
        self._reads = anyio.CapacityLimiter(_CONCURRENT_READS)

    def are_known(self, message: Message) -> bool:
        """Return whether the message is progress, and its recipients are cached."""
        return message.type is EventType.PROGRESS and _run_of(message) in self._cached

    def known_to_be_none(self, message: Message) -> bool:
        """Return whether the message is progress that nobody wants, by the cache."""
        return self.are_known(message) and not self._cached.get(_run_of(message))

    def remember_none(self, message: Message) -> None:
        """Cache that nobody wants the progress of a request. No effect for a final message."""
        if message.type is EventType.PROGRESS:
            self._cached[_run_of(message)] = []

    async def of(
        self, message: Message, tasks: TaskGroup, *, may_be_subscribed: bool
    ) -> list[Connection]:
        """Return the connections that want a message.

        1. Those that are subscribed to the type of the message. They are not read if not
           `may_be_subscribed`: the table of subscriptions was empty.
        2. The request's own connection, unless it has a subscription without that type.

        A message of a handler goes to those that it names. Of these, one more than
        MOST_OF_A_BROADCAST are read.

        For progress, and for messages of handlers, the answer may be five seconds old. For a final
        message the table is read, and read again if that fails. Raises the last error of the
        store. Subscriptions without a connection are deleted by a task in `tasks`.
        """
        if message.type is EventType.PROGRESS:
            connections = self._cached.get(_run_of(message))
            if connections is None:
                connections = await self._read(message, tasks, may_be_subscribed=may_be_subscribed)
                self._cached[_run_of(message)] = connections
            return self._without_gone(connections)
        if isinstance(message, HandlerMessage):
            return self._without_gone(await self._addressed_by(message))
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
        for _ in range(_TRIES - 1):
            try:
                return await self._read(message, tasks, may_be_subscribed=may_be_subscribed)
            except StoreError:
                await anyio.sleep(next(pauses))
        return await self._read(message, tasks, may_be_subscribed=may_be_subscribed)

    def is_fresh(self, since: datetime | None) -> bool:
        """Return whether a connection is so new that API Gateway may not know it yet (PUSH-2)."""
        return since is not None and (self._clock.now() - since).total_seconds() < _FRESH

    async def remove_connection(self, connection_id: str) -> None:
        """Delete a connection and its subscriptions. An error of the store is emitted."""
        self._gone[connection_id] = None
        try:
            await self._connections.delete(connection_id)
            removed = await self._subscriptions.delete_by_connection(connection_id)
        except StoreError as error:  # the next message to it tries again
            self._events.emit(StepFailed(loop="push", error=error))
        else:
            event = ConnectionGone(connection_id=connection_id, subscriptions=removed)
            self._events.emit(event)

    async def _addressed_by(self, message: HandlerMessage) -> list[Connection]:
        """Return the connections that a message of a handler names."""
        kind, name = "connection", message.connection_id
        if message.user is not None:
            kind, name = "user", message.user
        elif message.tenant is not None:
            kind, name = "tenant", message.tenant
        if not name:
            return []
        connections = self._addressed.get((kind, name))
        if connections is None:
            async with self._reads:
                match kind:
                    case "user":
                        read = self._connections.list_by_user(name, limit=_READ_FOR_A_BROADCAST)
                        connections = await read
                    case "tenant":
                        read = self._connections.list_by_tenant(name, limit=_READ_FOR_A_BROADCAST)
                        connections = await read
                    case _:
                        found = await self._connections.get_many([name])
                        connections = list(found.values())
            self._addressed[kind, name] = connections
        return connections

    def _without_gone(self, connections: list[Connection]) -> list[Connection]:
        return [
            connection for connection in connections if connection.connection_id not in self._gone
        ]

    async def _read(
        self, message: Message, tasks: TaskGroup, *, may_be_subscribed: bool
    ) -> list[Connection]:
        async with self._reads:
            subscriptions: list[Subscription] = []
            if may_be_subscribed:
                subscriptions = await self._subscriptions.get_by_request(message.request_id)
            wants = {
                subscription.connection_id: message.type in subscription.event_types
                for subscription in subscriptions
            }
            if message.connection_id:
                wants.setdefault(message.connection_id, True)
            connections = await self._connections.get_many(
                connection_id for connection_id, wanted in wants.items() if wanted
            )
        for subscription in subscriptions:
            connection_id = subscription.connection_id
            if wants[connection_id] and connection_id not in connections:
                tasks.start_soon(self._remove_orphan, subscription)
        return list(connections.values())

    async def _remove_orphan(self, orphan: Subscription) -> None:
        """Delete the subscriptions of a connection that has no row, unless they are so new that
        the row may still be written.
        """
        if self.is_fresh(orphan.created_at):  # PUSH-2
            return
        async with self._reads:
            try:
                await self._connections.get(orphan.connection_id)
            except NotFound:
                await self.remove_connection(orphan.connection_id)
            except StoreError as error:  # the next message to it tries again
                self._events.emit(StepFailed(loop="push", error=error))


def _run_of(message: Message) -> _Run:
    return message.request_id, message.run
