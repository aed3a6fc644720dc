"""Whom to tell of a request."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup
from cachetools import TTLCache

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
from streamer_worker.events import ConnectionGone, Events, StepFailed
from streamer_worker.push.messages import Message
from streamer_worker.retry import backoff

if TYPE_CHECKING:
    import random

# API Gateway answers 410 for a connection whose $connect has not returned yet.
_FRESH: Final = 10.0
_REMEMBERED_FOR: Final = 5.0
_REMEMBERED: Final = 10_000
_LOOKS_AT_ONCE: Final = 20
_LOOKS: Final = 5
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0


class Recipients:
    """Reads who is subscribed, and removes those who are gone."""

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        subscriptions: SubscriptionStore,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._connections = connections
        self._subscriptions = subscriptions
        self._events = events
        self._clock = clock
        self._rng = rng
        self._remembered: TTLCache[str, list[Connection]] = TTLCache(
            _REMEMBERED, _REMEMBERED_FOR, timer=clock.steady
        )
        self._gone: TTLCache[str, None] = TTLCache(_REMEMBERED, _REMEMBERED_FOR, timer=clock.steady)
        self._looks = anyio.CapacityLimiter(_LOOKS_AT_ONCE)

    async def of(self, message: Message, tasks: TaskGroup) -> list[Connection]:
        """Return who wants a message: the request's own connection, unless it is subscribed to
        less, and those subscribed to its type. Who wants progress is remembered for a while;
        for an end the table is asked, several times if it must be.

        Raises what the store raises. What nobody has left is removed in `tasks`.
        """
        if message.type is EventType.PROGRESS:
            known = self._remembered.get(message.request_id)
            if known is None:
                known = self._remembered[message.request_id] = await self._look(message, tasks)
            return [each for each in known if each.connection_id not in self._gone]
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
        for _ in range(_LOOKS - 1):
            try:
                return await self._look(message, tasks)
            except StoreError:
                await anyio.sleep(next(pauses))
        return await self._look(message, tasks)

    def is_fresh(self, since: datetime | None) -> bool:
        """Whether a connection is so new that nothing says it is gone."""
        return since is not None and (self._clock.now() - since).total_seconds() < _FRESH

    async def remove_connection(self, connection_id: str) -> None:
        """Remove a connection and its subscriptions; a failure is told."""
        self._gone[connection_id] = None
        try:
            await self._connections.delete(connection_id)
            removed = await self._subscriptions.delete_by_connection(connection_id)
        except StoreError as error:  # whoever meets it next tries again
            self._events.emit(StepFailed(loop="push", error=error))
        else:
            event = ConnectionGone(connection_id=connection_id, subscriptions=removed)
            self._events.emit(event)

    async def _look(self, message: Message, tasks: TaskGroup) -> list[Connection]:
        async with self._looks:
            subscribed = await self._subscriptions.get_by_request(message.request_id)
            wanted = {each.connection_id: message.type in each.event_types for each in subscribed}
            if message.connection_id:
                wanted.setdefault(message.connection_id, True)
            found = await self._connections.get_many(
                connection_id for connection_id, wants in wanted.items() if wants
            )
        for each in subscribed:
            if wanted[each.connection_id] and each.connection_id not in found:
                tasks.start_soon(self._forget, each)
        return list(found.values())

    async def _forget(self, orphan: Subscription) -> None:
        """Remove what a connection has left; of a new one the row may be about to come."""
        if self.is_fresh(orphan.created_at):
            return
        async with self._looks:
            try:
                await self._connections.get(orphan.connection_id)
            except NotFound:
                await self.remove_connection(orphan.connection_id)
            except StoreError as error:  # the next message to it tries again
                self._events.emit(StepFailed(loop="push", error=error))
