"""Runs a whole worker on stores in memory."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import anyio

from streamer_store import AsyncRequest, Connection, Stores, SystemClock, memory_stores
from streamer_store.transitions import TERMINAL
from streamer_worker.changes import Changes
from streamer_worker.events import Event, Events, RequestFinished
from streamer_worker.handlers.definition import Handler, HandlerGroup, Middleware
from streamer_worker.handlers.registry import registry
from streamer_worker.push.notifier import Notifier
from streamer_worker.push.push_thread import push_here
from streamer_worker.retry import RetryPolicy
from streamer_worker.runtime import Runtime
from streamer_worker.settings import HttpSettings, PollSettings, ReaperSettings, Settings
from streamer_worker.testing.arguments import Payload, payload_of, with_states
from streamer_worker.wiring import build_app

_RETRY_AT_ONCE = RetryPolicy(first=0, longest=0)
_POLL_INTERVAL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A message that was pushed to a connection. `message` is the decoded JSON."""

    connection_id: str
    message: dict[str, Any]


class MemoryWorker:
    """A running worker, as `memory_worker` gives it.

    * `stores`: the worker's stores, for a test that acts as a producer or an operator.
    * `delivered`: every message that was pushed to a connection, oldest first.

    Use it on the event loop of the test only.
    """

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.delivered: list[Delivered] = []
        self._flush: Callable[[], Awaitable[None]]
        self._changes = Changes()

    async def connect(self, connection_id: str = "connection-1", **fields: Any) -> Connection:
        """Store a connection and return it. Messages that it subscribed to are pushed from then on.

        `fields` are fields of the Connection.
        """
        defaults: dict[str, Any] = {
            "user_id": "user-1",
            "tenant_id": "tenant-1",
            "endpoint": "wss://api.execute-api.us-east-1.amazonaws.com/test",
            "connected_at": SystemClock().now(),
        }
        return await self.stores.connections.save(
            Connection(connection_id=connection_id, **defaults | fields)
        )

    async def enqueue(
        self, action: str, payload: Payload | None = None, **fields: Any
    ) -> AsyncRequest:
        """Put a request into the queue and return it. The payload is a mapping, a model or a
        dataclass. `fields` are fields of the AsyncRequest.

        Raises TypeError for another payload, ValidationError for invalid fields, and AlreadyExists
        for a used request_id.
        """
        return await self.stores.requests.enqueue(
            AsyncRequest(action=action, payload=payload_of(payload), **fields)
        )

    async def ended(self, request_id: str) -> AsyncRequest:
        """Wait until the request is COMPLETED, FAILED or CANCELLED and its messages are pushed;
        return it. Raises NotFound when it was deleted.
        """
        while True:
            changed = self._changes.next
            request = await self.stores.requests.get(request_id)
            if request.status in TERMINAL:
                await self._flush()
                return request
            with anyio.move_on_after(_POLL_INTERVAL):  # an operator may have cancelled it
                await changed.wait()

    async def run(self, action: str, payload: Payload | None = None, **fields: Any) -> AsyncRequest:
        """Enqueue a request, wait for its end, and return it. Raises as `enqueue` and `ended`."""
        request = await self.enqueue(action, payload, **fields)
        return await self.ended(request.request_id)

    def _on_event(self, event: Event) -> None:
        """Used by the worker: wake those that wait in `ended`."""
        if isinstance(event, RequestFinished):
            self._changes.notify()

    async def _post(self, url: str, connection_id: str, data: bytes) -> None:
        """Used by the worker: record a message instead of posting it."""
        del url
        self.delivered.append(Delivered(connection_id=connection_id, message=json.loads(data)))


@asynccontextmanager
async def memory_worker(
    *handlers: Handler | HandlerGroup[Any],
    middleware: Iterable[Middleware] = (),
    states: Mapping[HandlerGroup[Any], Any] = MappingProxyType({}),
    enter_lifespans: bool = False,
    seed: int = 0,
    **settings: Any,
) -> AsyncIterator[MemoryWorker]:
    """Run a worker with these handlers, and give its MemoryWorker. At the end of the context the
    worker drains and stops.

    Failed attempts run again at once, whatever the handler's RetryPolicy is. Requests with an
    unknown action fail at once.

    * `middleware`: the worker's middleware.
    * `states`: the `ctx.state` of the handlers of each group. Required for a group that has a
      lifespan, unless `enter_lifespans` is true.
    * `enter_lifespans`: whether the lifespans of groups without a state are entered, as the worker
      does. They may open real databases.
    * `seed`: that of the worker's random generator.
    * `settings`: fields of Settings.

    Raises HandlerLoadError for handlers with faults, TypeError for a group with a lifespan and no
    state, and LifespanError, inside an ExceptionGroup, when a lifespan fails.

    >>> import anyio
    >>> from streamer_worker import Context, handler
    >>> @handler("double")
    ... async def double(payload: dict[str, int], ctx: Context) -> int:
    ...     return payload["n"] * 2
    >>> async def run_twice() -> list[object]:
    ...     async with memory_worker(double) as worker:
    ...         return [(await worker.run("double", {"n": n})).result for n in (1, 2)]
    >>> anyio.run(run_twice)
    [{'data': 2}, {'data': 4}]
    """
    clock, rng = SystemClock(), random.Random(seed)  # noqa: S311  a test is repeatable
    stores = memory_stores(clock=clock, rng=rng)
    registered = with_states(
        registry(handlers, middleware), states, enter_lifespans=enter_lifespans
    )
    defaults: dict[str, Any] = {
        "poll": PollSettings(min_interval=0.001, max_interval=0.01, unknown_action_timeout=0.001),
        "reaper": ReaperSettings(enabled=False),
        "http": HttpSettings(enabled=False),
    }
    worker_settings = Settings(**defaults | settings)
    worker = MemoryWorker(stores)
    notifier = Notifier(
        connections=stores.connections,
        subscriptions=stores.subscriptions,
        post=worker._post,
        settings=worker_settings.notifier,
        runtime=Runtime(clock=clock, rng=rng, events=Events()),
        endpoint=worker_settings.push_endpoint,
    )
    worker._flush = partial(notifier.flush, _POLL_INTERVAL)
    app = build_app(
        stores,
        settings=worker_settings,
        registry={
            action: replace(handler, retry=_RETRY_AT_ONCE) for action, handler in registered.items()
        },
        push=push_here(notifier),
        listeners=[worker._on_event],
        clock=clock,
        rng=rng,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(app.run)
        try:
            yield worker
        finally:
            app.stop()
