"""Helpers of the worker's tests: stores with faults, recorded events, a clock of the loop."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import anyio
import pytest
import trio
from trio.testing import MockClock

from streamer_store import AsyncRequest, Candidate, Claim, Clock, RequestStatus, Stores, Undecodable
from streamer_store.engine import Put
from streamer_store.schema import REQUESTS
from streamer_store.stores import stores_over
from streamer_worker.app import App
from streamer_worker.changes import Changes
from streamer_worker.events import Event, Events, ItemUndecodable
from streamer_worker.handlers.context import Context
from streamer_worker.handlers.definition import Handler, HandlerGroup, Middleware, handler
from streamer_worker.handlers.registry import registry
from streamer_worker.push.messages import Message
from streamer_worker.push.push_thread import Push, PushOpener
from streamer_worker.runtime import Runtime
from streamer_worker.settings import HttpSettings, PollSettings, ReaperSettings, Settings
from streamer_worker.wiring import build_app
from support import START
from unit.worker.faulty_engine import PATIENCE, FaultyEngine

Kind = TypeVar("Kind")

# For tests in which time passes: trio's clock jumps, so no test waits.
virtual_time = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


class LoopClock:
    """The event loop's time, virtual on trio."""

    def now(self) -> datetime:
        return START + timedelta(seconds=anyio.current_time())

    def steady(self) -> float:
        return anyio.current_time()


class Recorder:
    """A listener that keeps the events, and can wait for them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changes = Changes()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._changes.notify()

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(
        self, kind: type[Kind], times: int = 1, *, within: float = PATIENCE
    ) -> list[Kind]:
        found: list[Kind] = []
        read = 0  # no event is read twice: there may be thousands
        with anyio.fail_after(within):
            while True:
                found += [event for event in self.events[read:] if isinstance(event, kind)]
                read = len(self.events)
                if len(found) >= times:
                    return found
                await self._changes.wait()
        raise AssertionError  # mypy: fail_after may swallow an exception


@dataclass(kw_only=True)
class World:
    """Stores that can fail, with the events and the messages of a worker on them.

    left: one entry for each call of `leave`.
    pushed: the messages that were pushed.
    """

    engine: FaultyEngine
    stores: Stores
    recorder: Recorder
    events: Events
    clock: Clock
    rng: random.Random
    left: list[bool] = field(default_factory=list)
    cpu: Callable[[], float] = float
    pushed: list[Message] = field(default_factory=list)

    @property
    def runtime(self) -> Runtime:
        return Runtime(clock=self.clock, rng=self.rng, events=self.events)

    async def enqueue(self, action: str = "echo", **fields: Any) -> AsyncRequest:
        """Enqueue a request. By default it has one attempt."""
        fields.setdefault("max_retries", fields.get("retry_count", 0))
        return await self.stores.requests.enqueue(AsyncRequest(action=action, **fields))

    async def candidate(
        self, request: AsyncRequest, status: RequestStatus = RequestStatus.PENDING
    ) -> Candidate:
        page = await self.stores.requests.entries(status, limit=1000)
        return next(entry for entry in page.candidates if entry.request_id == request.request_id)

    async def claim(self, action: str = "echo", **fields: Any) -> Claim:
        request = await self.enqueue(action, **fields)
        return await self.stores.requests.claim(await self.candidate(request), worker_id="me")

    async def get(self, request: AsyncRequest | Claim) -> AsyncRequest:
        return await self.stores.requests.get(request.request_id)

    async def put_raw(self, **attributes: Any) -> None:
        await self.engine.inner.put(Put(table=REQUESTS, item=attributes))

    async def put_pending(self, request_id: str, **attributes: Any) -> None:
        """Write a PENDING request with these attributes, of which any may be wrong or missing."""
        created = {"CreatedAt": {"S": "2026-01-01T00:00:00Z"}}
        key = {"RequestID": {"S": request_id}, "Status": {"S": "PENDING"}}
        await self.put_raw(**key | created | attributes)

    def app(
        self,
        handlers: Iterable[Handler | HandlerGroup[Any]] = (),
        middleware: Iterable[Middleware] = (),
        **settings: Any,
    ) -> App:
        handlers_by_action = registry(handlers, middleware)
        defaults: dict[str, Any] = {
            "poll": PollSettings(min_interval=0.001, max_interval=0.005),
            "reaper": ReaperSettings(enabled=False),
            "http": HttpSettings(enabled=False),
        }
        return build_app(
            self.stores,
            settings=Settings(**defaults | settings),
            registry=handlers_by_action,
            push=push_to(self.pushed.append),
            listeners=[self.recorder],
            leave=lambda: self.left.append(True),
            clock=self.clock,
            rng=self.rng,
            cpu=self.cpu,
        )


def make_world() -> World:
    engine = FaultyEngine()
    recorder = Recorder()
    events = Events(recorder)
    clock = LoopClock()
    rng = random.Random(7)

    def report(error: Undecodable) -> None:
        events.emit(ItemUndecodable(table=error.table, key=error.key, reason=error.reason))

    stores = stores_over(engine, clock=clock, rng=rng, report=report)
    return World(
        engine=engine, stores=stores, recorder=recorder, events=events, clock=clock, rng=rng
    )


def push_to(push: Push) -> PushOpener:
    """Return an opener of a push service that passes each message to `push`."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Push]:
        yield push

    return opened


@handler("echo")
async def echo(payload: dict[str, Any], _ctx: Context) -> Any:
    return payload


def pause_process(seconds: float) -> None:
    """Let time pass in which nothing runs, as after SIGSTOP. For tests in virtual time."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.jump(seconds)


class Waiting:
    """A handler that waits until `go` is set. It counts its starts and its cancellations."""

    def __init__(self, action: str = "wait") -> None:
        self.started = 0
        self.cancelled = 0
        self.go = anyio.Event()
        self.handler = handler(action)(self._run)

    async def _run(self, _payload: dict[str, Any], _ctx: Context) -> str:
        self.started += 1
        try:
            await self.go.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        return "waited"


@asynccontextmanager
async def running(app: App) -> AsyncIterator[str | None]:
    """Run a worker in a context, and yield its URL of /metrics. The worker must end after it."""
    async with anyio.create_task_group() as tasks:
        url: str | None = await tasks.start(app.run)
        yield url
        app.stop()
