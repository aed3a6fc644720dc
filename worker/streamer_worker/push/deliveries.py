"""Posts what waits in the outboxes, with one task for each connection."""

from __future__ import annotations

from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup
from cachetools import LRUCache

from streamer_store import Connection
from streamer_worker.changes import Changes
from streamer_worker.events import (
    ConnectionSuspended,
    EndpointRefused,
    PushTried,
    StepFailed,
)
from streamer_worker.push.endpoints import AllowedEndpoints
from streamer_worker.push.errors import Gone, PushFailed, PushRefused
from streamer_worker.push.limits import MOST, capacity_for, max_size_for
from streamer_worker.push.message_queue import MessageKind
from streamer_worker.push.messages import Message
from streamer_worker.push.ordered_messages import FINAL_WAITS_FOR
from streamer_worker.push.outbox import Delivery, Encoded, FailureStreak, Outbox, Waiting
from streamer_worker.push.pace import Pace
from streamer_worker.push.post_slots import PostSlots
from streamer_worker.push.recipients import Recipients
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime
from streamer_worker.settings import NotifierSettings

# Seconds.
SUSPENDED_FOR: Final = 30.0
GIVE_UP_AFTER: Final = 60.0
# An ordered message, such as a handler's own, is dropped after this time.
ORDERED_GIVE_UP_AFTER: Final = 30.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
# Ordered messages in the outboxes: one for each of their recipients.
_MAX_ORDERED: Final = 50_000


class Post(Protocol):
    """Posts to connections: the management API of API Gateway, or a test."""

    async def __call__(self, url: str, connection_id: str, data: bytes) -> None:
        """Post `data` to a connection of the API at `url`.

        Raises Gone if the connection is closed, and PushFailed if the post may succeed later.
        """
        ...


class Deliveries:
    """Holds an outbox for each connection that messages wait for, and posts them one after another.

    So a slow connection delays no other connection. A final message is tried again for
    GIVE_UP_AFTER seconds, an ordered one for ORDERED_GIVE_UP_AFTER, other progress is not.

    Not thread-safe.

    endpoints: says which endpoints may be posted to.
    changes: notified when an outbox is empty or was tried.
    """

    def __init__(
        self,
        *,
        post: Post,
        endpoints: AllowedEndpoints,
        recipients: Recipients,
        settings: NotifierSettings,
        runtime: Runtime,
        changes: Changes,
    ) -> None:
        self._post = post
        self._endpoints = endpoints
        self._recipients = recipients
        self._settings = settings
        self._events = runtime.events
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._changes = changes
        self._outboxes: dict[str, Outbox] = {}
        self._waiting = Waiting()
        # Connections whose last post has failed.
        self._streaks: LRUCache[str, FailureStreak] = LRUCache(MOST)
        self._posts = PostSlots(settings.max_concurrent_posts)
        # Posts to those connections have their own limit, so that they do not delay others.
        self._degraded = PostSlots(max(1, settings.max_concurrent_posts // 10))
        self._paces = {
            MessageKind.PROGRESS: Pace(settings.progress_rate, self._clock.steady),
            MessageKind.ORDERED: Pace(settings.message_rate, self._clock.steady),
        }
        self._tasks: TaskGroup

    def __len__(self) -> int:
        """Return the number of connections that messages wait for."""
        return len(self._outboxes)

    @property
    def all_tried(self) -> bool:
        """Whether every outbox has failed since its last message, and every outcome was tried."""
        return all(
            outbox.tried and not outbox.untried.is_set() for outbox in self._outboxes.values()
        )

    def start(self, tasks: TaskGroup) -> None:
        """Post in tasks of this group. Call it before anything is put."""
        self._tasks = tasks

    def put(self, connection: Connection, message: Message, encoded: Encoded) -> None:
        """Put a message into the outbox of a connection, or drop and report it."""
        too_many = message.kind is MessageKind.ORDERED and self._waiting.deliveries >= _MAX_ORDERED
        if too_many or (not encoded.deliveries and self._waiting.size >= max_size_for(message)):
            self.emit_tried(message, "dropped")
            return
        outbox = self._outboxes.get(connection.connection_id)
        if outbox is None:
            if len(self._outboxes) >= capacity_for(message):
                self.emit_tried(message, "dropped")
                return
            outbox = self._outboxes[connection.connection_id] = Outbox(connection, self._waiting)
            self._tasks.start_soon(self._deliver, outbox)
        now = self._clock.steady()
        created = now - self._age(message)
        ordered = message.kind is MessageKind.ORDERED
        delivery = Delivery(
            type=message.type,
            kind=message.kind,
            request_id=message.request_id,
            encoded=encoded,
            overtakes_at=created + FINAL_WAITS_FOR,
            give_up_at=created + ORDERED_GIVE_UP_AFTER if ordered else now + GIVE_UP_AFTER,
        )
        if message.is_final:
            self._posts.make_urgent(outbox)
            self._degraded.make_urgent(outbox)
        for dropped in outbox.put(delivery):
            self.emit_tried(dropped, "dropped")

    def drop_if_old(self, message: Message) -> bool:
        """Return whether an ordered message is given up, and report that."""
        too_old = self._age(message) >= ORDERED_GIVE_UP_AFTER
        if too_old:
            self.emit_tried(message, "dropped")
        return too_old

    def emit_tried(
        self, message: Message | Delivery, outcome: str, code: str | None = None
    ) -> None:
        """Report what became of a message."""
        self._events.emit(PushTried(type=str(message.type), outcome=outcome, code=code))

    def _age(self, message: Message) -> float:
        """Return the seconds since the message was made, 0 at least."""
        return max(0.0, (self._clock.now() - message.at).total_seconds())

    async def _deliver(self, outbox: Outbox) -> None:
        """Post the messages of an outbox, one after another, until it is empty."""
        connection_id = outbox.connection.connection_id
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
        try:
            while (delivery := self._first(outbox)) is not None:
                if delivery.kind in self._paces:
                    await self._paces[delivery.kind].wait(outbox.urgent)
                code = await self._post_first(outbox)
                if code is None:
                    pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng)
                    continue
                suspended = self._count_failure(connection_id, code)
                outbox.tried = True
                self._changes.notify()
                await self._pause(outbox, SUSPENDED_FOR if suspended else next(pauses))
        except Exception as error:  # noqa: BLE001  deliveries to other connections continue
            self._events.emit(StepFailed(loop="push", error=error))
        finally:
            outbox.pop_all()  # after an error: for the count of bytes
            del self._outboxes[connection_id]
            self._changes.notify()

    async def _pause(self, outbox: Outbox, seconds: float) -> None:
        """Wait before the next try. An outcome that was not tried ends the wait (PUSH-4): it is
        not late because the messages before it have failed.
        """
        with anyio.move_on_after(seconds):
            await outbox.untried.wait()

    def _first(self, outbox: Outbox) -> Delivery | None:
        """Return the delivery to post next. Messages of handlers that are too old are dropped."""
        now = self._clock.steady()
        for expired in outbox.pop_expired(now):
            self.emit_tried(expired, "dropped")
        return outbox.first(now, failing=outbox.connection.connection_id in self._streaks)

    async def _post_first(self, outbox: Outbox) -> str | None:
        """Post the first message. Return the code of a failure after which the connection needs a
        pause, otherwise None.
        """
        connection_id = outbox.connection.connection_id
        degraded = connection_id in self._streaks
        try:
            slots = self._degraded if degraded else self._posts
            async with slots.hold(outbox, urgent=outbox.urgent.is_set()):
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
            outbox.mark_tried(delivery)
            if outbox.discard(delivery):  # else it was reported as dropped
                self.emit_tried(delivery, "sent")
            if delivery.kind is MessageKind.FINAL:
                for late in outbox.pop_late_progress(delivery):
                    self.emit_tried(late, "dropped")
        return None

    def _give_up_all(self, outbox: Outbox, outcome: str) -> None:
        for delivery in outbox.pop_all():
            self.emit_tried(delivery, outcome)

    async def _post_in_time(self, connection: Connection, data: bytes) -> None:
        url = self._endpoints.url_of(connection.endpoint)
        with anyio.move_on_after(self._settings.timeout) as scope:
            await self._post(url, connection.connection_id, data)
        if scope.cancelled_caught:
            raise PushFailed("timeout")

    def _post_failed(self, outbox: Outbox, delivery: Delivery, code: str) -> str:
        """Drop the message, unless it may be tried again. Return `code`."""
        outbox.mark_tried(delivery)
        if delivery.kind is MessageKind.PROGRESS or self._clock.steady() >= delivery.give_up_at:
            outbox.discard(delivery)
        self.emit_tried(delivery, "failed", code)
        return code

    def _count_failure(self, connection_id: str, code: str) -> bool:
        """Count a failure. Return whether the connection is suspended."""
        streak = self._streaks.setdefault(connection_id, FailureStreak())
        was_suspended = streak.suspended
        streak.failures += 1
        if streak.suspended and not was_suspended:
            self._events.emit(ConnectionSuspended(connection_id=connection_id, code=code))
        return streak.suspended
