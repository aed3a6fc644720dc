"""Where pushing happens: on a thread of its own, nowhere, or, for tests, on the worker's loop.

On its own thread, with its own clients, a thousand connections that are told do not slow the
handlers, and a handler that blocks the loop does not keep others from being told.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from streamer_store import Clock, EventType, Stores
from streamer_worker.events import Events, PushServiceFailed, PushTried
from streamer_worker.push.messages import Message
from streamer_worker.push.notifier import Notifier, Post
from streamer_worker.retry import backoff
from streamer_worker.settings import NotifierSettings

if TYPE_CHECKING:
    import random

# Hands a message over. Neither waits nor raises.
Push = Callable[[Message], None]
PushOpener = Callable[[], AbstractAsyncContextManager[Push]]
OpenStores = Callable[[], AbstractAsyncContextManager[Stores]]
OpenPost = Callable[[], AbstractAsyncContextManager[Post]]

FLUSH: Final = 3.0
ENDS_WITHIN: Final = 1.0
_MOST: Final = 10_000
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


@asynccontextmanager
async def push_off() -> AsyncIterator[Push]:
    """Tell nobody."""
    yield lambda _message: None


def push_here(notifier: Notifier) -> PushOpener:
    """Return an opener of pushing on the loop that the worker runs on."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Push]:
        async with notifier:
            yield notifier.offer
            await notifier.flush(FLUSH)

    return opened


def push_on_thread(
    *,
    open_stores: OpenStores,
    open_post: OpenPost,
    settings: NotifierSettings,
    events: Events,
    clock: Clock,
    rng: random.Random,
) -> PushOpener:
    """Return an opener of pushing on a thread of its own. Entering does not wait for it."""

    async def serve(mailbox: Mailbox) -> None:
        pauses = backoff(_FIRST_PAUSE, _LONGEST_PAUSE, rng)
        while not mailbox.closed:
            try:
                async with open_stores() as stores, open_post() as post:
                    await mailbox.drain_into(
                        Notifier(
                            connections=stores.connections,
                            subscriptions=stores.subscriptions,
                            post=post,
                            settings=settings,
                            events=events,
                            clock=clock,
                            rng=rng,
                        )
                    )
            except Exception as error:  # noqa: BLE001  the worker goes on without
                events.emit(PushServiceFailed(error=error))
                await mailbox.wait_closed(next(pauses))

    @asynccontextmanager
    async def opened() -> AsyncIterator[Push]:
        mailbox = Mailbox(events)
        run = partial(anyio.run, serve, mailbox)
        # A daemon, so that it cannot keep the process.
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
    """Messages on their way to another thread. Of each request there is the newest progress;
    when it is full, progress goes before ends.
    """

    def __init__(self, events: Events) -> None:
        self.closed = False
        self._events = events
        self._lock = threading.Lock()
        self._ends: deque[Message] = deque()
        self._progress: dict[str, Message] = {}
        self._waiter: tuple[asyncio.AbstractEventLoop, anyio.Event] | None = None

    def put(self, message: Message) -> None:
        """Take a message, from any thread."""
        dropped: Message | None = None
        with self._lock:
            self._progress.pop(message.request_id, None)
            if message.type is EventType.PROGRESS:
                self._progress[message.request_id] = message
            else:
                self._ends.append(message)
            if len(self._progress) + len(self._ends) > _MOST:
                dropped = self._oldest()
            waiter, self._waiter = self._waiter, None
        if dropped is not None:
            self._events.emit(PushTried(type=dropped.type.value, outcome="dropped"))
        if waiter is not None:
            _wake(*waiter)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            _wake(*waiter)

    async def drain_into(self, notifier: Notifier) -> None:
        """Hand over what comes, until this is closed; then let it be tried."""
        async with notifier:
            while True:
                for message in self._taken():
                    notifier.offer(message)
                if self.closed:
                    break
                await self._wait()
            for message in self._taken():
                notifier.offer(message)
            await notifier.flush(FLUSH)

    async def wait_closed(self, seconds: float) -> None:
        """Wait so long, or until it is closed."""
        with anyio.move_on_after(seconds):
            while not self.closed:
                await self._wait(news=False)

    async def _wait(self, *, news: bool = True) -> None:
        event = anyio.Event()
        with self._lock:
            if self.closed or (news and (self._ends or self._progress)):
                return
            self._waiter = asyncio.get_running_loop(), event
        await event.wait()

    def _taken(self) -> list[Message]:
        with self._lock:
            taken = [*self._progress.values(), *self._ends]
            self._progress.clear()
            self._ends.clear()
        return taken

    def _oldest(self) -> Message:
        if self._progress:
            return self._progress.pop(next(iter(self._progress)))
        return self._ends.popleft()


def _wake(loop: asyncio.AbstractEventLoop, event: anyio.Event) -> None:
    with suppress(RuntimeError):  # that loop is closed
        loop.call_soon_threadsafe(event.set)
