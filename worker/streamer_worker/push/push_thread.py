"""The push service: on a thread of its own, on the worker's loop (for tests), or switched off.

The thread has its own event loop and its own clients. So a thousand connections do not slow down
the handlers, and a handler that blocks the worker's loop does not delay messages.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Final

import anyio
from anyio.lowlevel import current_token

from streamer_store import Stores
from streamer_worker.events import Events, PushServiceFailed, PushTried
from streamer_worker.loop_calls import LoopCalls
from streamer_worker.push.deliveries import Post
from streamer_worker.push.message_queue import MessageKind, MessageQueue
from streamer_worker.push.messages import Message
from streamer_worker.push.notifier import Notifier
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime
from streamer_worker.settings import NotifierSettings

# Passes a message to the push service, from any thread. Neither waits nor raises.
Push = Callable[[Message], None]
PushOpener = Callable[[], AbstractAsyncContextManager[Push]]
OpenStores = Callable[[], AbstractAsyncContextManager[Stores]]
OpenPost = Callable[[], AbstractAsyncContextManager[Post]]

# Seconds at the end: for messages to be tried, and then for the thread to end.
FLUSH: Final = 3.0
ENDS_WITHIN: Final = 1.0
# Messages that wait for the thread, and their bytes of memory.
_MOST: Final = 10_000
_MAX_SIZE: Final = 32_000_000
# Those of handlers: the other half remains for outcomes and progress.
_MOST_OF_HANDLERS: Final = _MOST // 2
_MAX_SIZE_OF_HANDLERS: Final = _MAX_SIZE // 2
# Seconds in which messages are collected after some were offered. So in a burst, the thread wakes
# 50 times a second and not for each message.
_COLLECT_FOR: Final = 0.02
_DROPPED_FIRST: Final = (MessageKind.PROGRESS, MessageKind.ORDERED, MessageKind.FINAL)
# Seconds until the service starts again after a failure.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


@asynccontextmanager
async def push_off() -> AsyncIterator[Push]:
    """Discard every message: the push service is switched off."""
    yield lambda _message: None


def push_here(notifier: Notifier) -> PushOpener:
    """Return an opener of the push service on the worker's own event loop."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Push]:
        loop_calls = LoopCalls(current_token())
        async with notifier:
            yield lambda message: loop_calls(partial(notifier.offer, message))
            await notifier.flush(FLUSH)

    return opened


def push_on_thread(
    *,
    open_stores: OpenStores,
    open_post: OpenPost,
    settings: NotifierSettings,
    runtime: Runtime,
    endpoint: str | None = None,
) -> PushOpener:
    """Return an opener of the push service on a thread of its own.

    Entering does not wait for the service. If it fails it starts again, while the messages wait.
    Leaving waits until every message was tried once, for FLUSH + ENDS_WITHIN seconds at most.

    open_stores, open_post: called on the push thread, at each start of the service.
    endpoint: as of Notifier.
    """

    async def serve(mailbox: Mailbox) -> None:
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, runtime.rng)
        while not mailbox.closed:
            try:
                async with open_stores() as stores, open_post() as post:
                    await mailbox.drain_into(
                        Notifier(
                            connections=stores.connections,
                            subscriptions=stores.subscriptions,
                            post=post,
                            settings=settings,
                            runtime=runtime,
                            endpoint=endpoint,
                        )
                    )
            except Exception as error:  # noqa: BLE001  the worker runs without it meanwhile
                runtime.events.emit(PushServiceFailed(error=error))
                mailbox.report_dropped()
                await mailbox.wait_closed(next(pauses))

    @asynccontextmanager
    async def opened() -> AsyncIterator[Push]:
        mailbox = Mailbox(runtime.events)
        run = partial(anyio.run, serve, mailbox)
        # A daemon thread cannot prevent the end of the process.
        thread = threading.Thread(target=run, name="push", daemon=True)
        thread.start()
        try:
            yield mailbox.put
        finally:
            mailbox.close()
            join = partial(thread.join, FLUSH + ENDS_WITHIN)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(join, limiter=anyio.CapacityLimiter(1))

    return opened


class Mailbox:
    """Passes messages from the worker's threads to the push thread.

    `put` and `close` may be called from any thread, the other methods on the push thread only. A
    full mailbox drops the oldest progress, then messages of handlers, then final messages.
    """

    def __init__(self, events: Events) -> None:
        # Written once, by the worker's loop. Read by the push thread.
        self.closed = False
        self._events = events
        self._lock = threading.Lock()
        # These are written and read by both threads, only under the lock.
        self._queue: MessageQueue[Message] = MessageQueue()
        # Messages that were dropped, by type. Reported by the push thread.
        self._dropped: Counter[str] = Counter()
        # The push thread's loop, and the event that it waits for. None while it is not waiting.
        self._waiter: tuple[asyncio.AbstractEventLoop, anyio.Event] | None = None
        # Whether it waits for messages. Otherwise it waits for `close` only.
        self._waits_for_messages = False

    def put(self, message: Message) -> None:
        """Add a message. It replaces older progress of its request."""
        with self._lock:
            self._queue.put(message)
            while (kind := self._kind_to_drop()) is not None:
                self._dropped[str(self._queue.pop(kind).type)] += 1
            waiter = self._take_waiter() if self._waits_for_messages else None
        _wake(waiter)

    def close(self) -> None:
        """End `drain_into`, once it has taken the messages that were put before."""
        with self._lock:
            self.closed = True
            waiter = self._take_waiter()
        _wake(waiter)

    async def drain_into(self, notifier: Notifier) -> None:
        """Offer each message to a notifier until the mailbox is closed. Then flush the notifier.

        A message waits for _COLLECT_FOR at most, and not at all after a quiet time.
        """
        async with notifier:
            while True:
                offered = self._offer_all(notifier)
                if self.closed:
                    break
                if offered:
                    await self.wait_closed(_COLLECT_FOR)
                await self._wait()
            self._offer_all(notifier)
            await notifier.flush(FLUSH)

    async def wait_closed(self, seconds: float) -> None:
        """Wait until the mailbox is closed, for `seconds` at most."""
        with anyio.move_on_after(seconds):
            while not self.closed:
                await self._wait(for_messages=False)

    async def _wait(self, *, for_messages: bool = True) -> None:
        event = anyio.Event()
        with self._lock:
            if self.closed or (for_messages and len(self._queue)):
                return
            self._waiter = asyncio.get_running_loop(), event
            self._waits_for_messages = for_messages
        await event.wait()

    def report_dropped(self) -> None:
        """Report the messages that were dropped since the last call."""
        with self._lock:
            dropped, self._dropped = self._dropped, Counter()
        for kind, count in dropped.items():
            self._events.emit(PushTried(type=kind, outcome="dropped", count=count))

    def _offer_all(self, notifier: Notifier) -> int:
        """Offer all messages to the notifier. Return their number."""
        self.report_dropped()
        with self._lock:
            messages = self._queue.pop_all()
        for message in messages:
            notifier.offer(message)
        return len(messages)

    def _kind_to_drop(self) -> MessageKind | None:
        queue = self._queue
        if (
            queue.count(MessageKind.ORDERED) > _MOST_OF_HANDLERS
            or queue.ordered_size > _MAX_SIZE_OF_HANDLERS
        ):
            return MessageKind.ORDERED
        if len(queue) > _MOST or queue.size > _MAX_SIZE:
            return next(kind for kind in _DROPPED_FIRST if queue.count(kind))
        return None

    def _take_waiter(self) -> tuple[asyncio.AbstractEventLoop, anyio.Event] | None:
        """Return the waiter, which the caller wakes without the lock."""
        waiter, self._waiter = self._waiter, None
        return waiter


def _wake(waiter: tuple[asyncio.AbstractEventLoop, anyio.Event] | None) -> None:
    if waiter is not None:
        loop, event = waiter
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(event.set)
