"""Helpers of the worker's tests: stores with faults, recorded events, a clock of the loop."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import anyio
import pytest

from streamer_store import (
    AsyncRequest,
    Candidate,
    Claim,
    Clock,
    Difference,
    RequestStatus,
    Stores,
    StoreUnavailable,
    Undecodable,
)
from streamer_store.engine import ConditionFailed, Delete, Page, Put, Query, Scan, Update
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS, Table
from streamer_store.stores import stores_over
from streamer_store.values import Item
from streamer_worker.app import App
from streamer_worker.events import Event, Events, ItemUndecodable
from streamer_worker.handlers.context import Context
from streamer_worker.handlers.definition import Handler, HandlerGroup, Middleware, handler
from streamer_worker.handlers.registry import registry
from streamer_worker.push.messages import Message
from streamer_worker.push.push_thread import Push, PushOpener
from streamer_worker.settings import HttpSettings, PollSettings, ReaperSettings, Settings
from streamer_worker.wiring import build_app
from support import START

PATIENCE = 20.0
Kind = TypeVar("Kind")
Result = TypeVar("Result")

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
        self._changed = anyio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

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
                await self._changed.wait()
        raise AssertionError  # mypy: fail_after may swallow an exception


@dataclass(kw_only=True)
class Fault:
    """Makes matching calls wait, fail, or both.

    times: number of calls.
    lands: the call takes effect before it waits and fails.
    gate: calls wait until it is set.
    reached: set by the first call.
    """

    operation: str
    when: Callable[[Any], bool]
    error: Exception | None
    times: int
    lands: bool
    gate: anyio.Event | None
    reached: anyio.Event = field(default_factory=anyio.Event)

    async def wait_reached(self) -> None:
        with anyio.fail_after(PATIENCE):
            await self.reached.wait()

    def let_go(self) -> None:
        assert self.gate is not None
        self.gate.set()


def anything(_subject: Any) -> bool:
    return True


def moves_to(status: str) -> Callable[[Any], bool]:
    """Match the update that gives a request this status."""
    return lambda update: update.sets.get("Status") == {"S": status}


def is_request(update: Any) -> bool:
    return update.table is REQUESTS


def is_progress(update: Any) -> bool:
    return "Status" not in update.sets and "WriteSeq" in update.sets


class FaultyEngine:
    """A MemoryEngine that fails or waits on demand."""

    def __init__(self) -> None:
        self.inner = MemoryEngine()
        self.differences: list[Difference] = []
        self.calls: list[str] = []
        self._faults: list[Fault] = []

    def fail(
        self,
        operation: str,
        error: Exception | None = None,
        *,
        when: Callable[[Any], bool] = anything,
        times: int = 1,
        lands: bool = False,
    ) -> Fault:
        """Make matching calls fail. With `lands` they take effect before that."""
        error = error or StoreUnavailable("the table is away")
        return self._add(operation, when, error, times, lands=lands, gate=None)

    def hold(
        self,
        operation: str,
        *,
        when: Callable[[Any], bool] = anything,
        times: int = 1,
        lands: bool = False,
    ) -> Fault:
        """Make matching calls wait until `let_go`. With `lands` they take effect before that."""
        return self._add(operation, when, None, times, lands=lands, gate=anyio.Event())

    def heal(self) -> None:
        self._faults.clear()

    def _add(
        self,
        operation: str,
        when: Callable[[Any], bool],
        error: Exception | None,
        times: int,
        *,
        lands: bool,
        gate: anyio.Event | None,
    ) -> Fault:
        fault = Fault(
            operation=operation, when=when, error=error, times=times, lands=lands, gate=gate
        )
        self._faults.append(fault)
        return fault

    async def _call(
        self, operation: str, subject: Any, call: Callable[[], Awaitable[Result]]
    ) -> Result:
        self.calls.append(operation)
        fault = self._matching(operation, subject)
        if fault is None:
            return await call()
        fault.times -= 1
        fault.reached.set()
        landed: list[Result] = []
        if fault.lands:
            try:
                landed.append(await call())
            except ConditionFailed:
                if fault.error is None:
                    raise
        if fault.gate is not None:
            await fault.gate.wait()
        if fault.error is not None:
            await anyio.lowlevel.checkpoint()
            raise fault.error
        return landed[0] if landed else await call()

    def _matching(self, operation: str, subject: Any) -> Fault | None:
        for fault in self._faults:
            if fault.operation == operation and fault.times and fault.when(subject):
                return fault
        return None

    def table_name(self, table: Table) -> str:
        return self.inner.table_name(table)

    async def get(self, table: Table, key: str) -> Item | None:
        return await self._call("get", key, lambda: self.inner.get(table, key))

    async def get_many(self, table: Table, keys: Sequence[str]) -> list[Item]:
        return await self._call("get_many", keys, lambda: self.inner.get_many(table, keys))

    async def put(self, put: Put) -> None:
        await self._call("put", put, lambda: self.inner.put(put))

    async def update(self, update: Update) -> Item:
        return await self._call("update", update, lambda: self.inner.update(update))

    async def delete(self, delete: Delete) -> None:
        await self._call("delete", delete, lambda: self.inner.delete(delete))

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        await self._call("delete_many", keys, lambda: self.inner.delete_many(table, keys))

    async def query(self, query: Query) -> Page:
        return await self._call("query", query, lambda: self.inner.query(query))

    async def scan(self, scan: Scan) -> Page:
        return await self._call("scan", scan, lambda: self.inner.scan(scan))

    async def create_tables(self) -> None:
        await self._call("create_tables", None, self.inner.create_tables)

    async def check_tables(self) -> list[Difference]:
        differences = await self._call("check_tables", None, self.inner.check_tables)
        return [*differences, *self.differences]


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
