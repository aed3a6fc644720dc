"""A whole worker on stores in memory."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio

from streamer_store import AsyncRequest, Connection, Stores, SystemClock, memory_stores
from streamer_store.transitions import TERMINAL
from streamer_worker.events import Event, Events, RequestFinished
from streamer_worker.handlers.definition import Handler, HandlerGroup, Middleware
from streamer_worker.handlers.registry import registry
from streamer_worker.push.notifier import Notifier
from streamer_worker.push.push_thread import push_here
from streamer_worker.retry import RetryPolicy
from streamer_worker.settings import HttpSettings, PollSettings, ReaperSettings, Settings
from streamer_worker.wiring import build_app

_AT_ONCE = RetryPolicy(first=0, longest=0)
_LOOK_AGAIN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A message that a connection was sent."""

    connection_id: str
    message: dict[str, Any]


class MemoryWorker:
    """A running worker. `stores` are those of the producers, `delivered` what was pushed."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.delivered: list[Delivered] = []
        self.flush: Callable[[], Awaitable[None]]
        self._changed = anyio.Event()

    async def connect(self, connection_id: str = "connection-1", **fields: Any) -> Connection:
        """Store a connection, which is then sent what it waits for."""
        given: dict[str, Any] = {
            "user_id": "user-1",
            "tenant_id": "tenant-1",
            "endpoint": "wss://api.execute-api.us-east-1.amazonaws.com/test",
            "connected_at": SystemClock().now(),
        }
        return await self.stores.connections.save(
            Connection(connection_id=connection_id, **given | fields)
        )

    async def enqueue(
        self, action: str, payload: Mapping[str, Any] | None = None, **fields: Any
    ) -> AsyncRequest:
        """Put a request into the queue; `fields` are those of an AsyncRequest."""
        return await self.stores.requests.enqueue(
            AsyncRequest(action=action, payload=dict(payload or {}), **fields)
        )

    async def ended(self, request_id: str) -> AsyncRequest:
        """Wait until the request is COMPLETED, FAILED or CANCELLED, and who waits for it has
        been told; return it.
        """
        while True:
            changed = self._changed
            request = await self.stores.requests.get(request_id)
            if request.status in TERMINAL:
                await self.flush()
                return request
            with anyio.move_on_after(_LOOK_AGAIN):  # somebody else may have ended it
                await changed.wait()

    async def run(
        self, action: str, payload: Mapping[str, Any] | None = None, **fields: Any
    ) -> AsyncRequest:
        """Enqueue a request, and return it when it has ended."""
        request = await self.enqueue(action, payload, **fields)
        return await self.ended(request.request_id)

    def heard(self, event: Event) -> None:
        if isinstance(event, RequestFinished):
            changed, self._changed = self._changed, anyio.Event()
            changed.set()

    async def post(self, url: str, connection_id: str, data: bytes) -> None:
        del url
        self.delivered.append(Delivered(connection_id=connection_id, message=json.loads(data)))


@asynccontextmanager
async def memory_worker(
    *handlers: Handler | HandlerGroup[Any],
    middleware: Iterable[Middleware] = (),
    seed: int = 0,
    **settings: Any,
) -> AsyncIterator[MemoryWorker]:
    """Run a worker with these handlers; it drains and ends with the context.

    `settings` are fields of Settings. Failed attempts run again at once, whatever their
    RetryPolicy says, and unknown actions fail at once.
    """
    clock, rng = SystemClock(), random.Random(seed)  # noqa: S311  a test shall repeat itself
    stores = memory_stores(clock=clock, rng=rng)
    found = registry(handlers, middleware)
    defaults: dict[str, Any] = {
        "poll": PollSettings(min_interval=0.001, max_interval=0.01, unknown_action_timeout=0.001),
        "reaper": ReaperSettings(enabled=False),
        "http": HttpSettings(enabled=False),
    }
    made = Settings(**defaults | settings)
    worker = MemoryWorker(stores)
    notifier = Notifier(
        connections=stores.connections,
        subscriptions=stores.subscriptions,
        post=worker.post,
        settings=made.notifier,
        events=Events(),
        clock=clock,
        rng=rng,
    )
    worker.flush = partial(notifier.flush, _LOOK_AGAIN)
    app = build_app(
        stores,
        settings=made,
        registry={action: replace(each, retry=_AT_ONCE) for action, each in found.items()},
        push=push_here(notifier),
        listeners=[worker.heard],
        clock=clock,
        rng=rng,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(app.run)
        try:
            yield worker
        finally:
            app.stop()
