"""Handler groups and their lifespans."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_worker import Context, HandlerGroup, SyncContext, handler
from streamer_worker.errors import HandlerLoadError, LifespanError
from streamer_worker.events import LifespanFailed
from streamer_worker.handlers.registry import load_handlers
from unit.worker.handlers.group_bench import finished, nothing
from unit.worker.harness import World, on_asyncio, pause_process, running, virtual_time

pytestmark = pytest.mark.anyio


class Pool:
    """The value of a lifespan, which records what happened to it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Pool]:
        self.calls.append("entered")
        yield self
        self.calls.append("left")


def group_of(pool: Pool, **rules: Any) -> HandlerGroup[Pool]:
    group = HandlerGroup(lifespan=pool.lifespan, **rules)

    @group.handler("use")
    async def use(_payload: dict[str, Any], ctx: Context[Pool]) -> None:
        ctx.state.calls.append("used")

    @group.handler("use_in_thread")
    def use_in_thread(_payload: dict[str, Any], ctx: SyncContext[Pool]) -> None:
        assert threading.current_thread() is not threading.main_thread()
        ctx.state.calls.append("used in a thread")

    return group


async def test_a_lifespan_is_entered_once_and_left_after_the_last_handler(world: World) -> None:
    """Its value is the state of every handler of the group."""
    pool = Pool()
    async with running(world.app([group_of(pool)])):
        await finished(world, "use")
        await finished(world, "use")
    assert pool.calls == ["entered", "used", "used", "left"]


@on_asyncio
async def test_a_plain_function_has_the_state_too(world: World) -> None:
    """Its SyncContext has it."""
    pool = Pool()
    async with running(world.app([group_of(pool)])):
        assert (await finished(world, "use_in_thread")).status is RequestStatus.COMPLETED
    assert pool.calls == ["entered", "used in a thread", "left"]


async def test_groups_are_left_in_reverse_order(world: World) -> None:
    """A later one may use an earlier one."""
    calls: list[str] = []

    def named(name: str) -> HandlerGroup[str]:
        @asynccontextmanager
        async def span() -> AsyncIterator[str]:
            calls.append(f"{name} entered")
            yield name
            calls.append(f"{name} left")

        group = HandlerGroup(lifespan=span)

        @group.handler(name)
        async def state(_payload: dict[str, Any], ctx: Context[str]) -> str:
            return ctx.state

        return group

    async with running(world.app([named("a"), named("b")])):
        assert (await finished(world, "b")).result == {"data": "b"}
    assert calls == ["a entered", "b entered", "b left", "a left"]


async def test_a_handler_without_a_group_has_no_state(world: World) -> None:
    """It is None."""

    @handler("alone")
    async def alone(_payload: dict[str, Any], ctx: Context) -> Any:
        return ctx.state

    async with running(world.app([alone])):
        assert (await finished(world, "alone")).result == {"data": None}


async def test_a_lifespan_that_cannot_be_entered_stops_the_start(world: World) -> None:
    """The error names the actions and the reason. Lifespans entered before are left."""
    pool = Pool()

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    group = HandlerGroup(lifespan=broken)
    group.handler("report")(nothing)
    with pytest.raises(LifespanError, match="group of report: ConnectionError: no database"):
        await world.app([group_of(pool), group]).run()
    assert pool.calls == ["entered", "left"]


@virtual_time
async def test_a_stop_does_not_wait_for_a_lifespan_that_is_being_entered(world: World) -> None:
    """A database that does not answer does not delay a deployment."""
    entering = anyio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        entering.set()
        await anyio.sleep(3600)
        yield

    group = HandlerGroup(lifespan=slow)
    group.handler("report")(nothing)
    app = world.app([group])
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await entering.wait()
        app.stop()
    assert anyio.current_time() - began < 1


@virtual_time
async def test_a_lifespan_that_fails_stops_the_worker(world: World) -> None:
    """Running handlers may finish. Then the process ends with the error."""
    failing = anyio.Event()

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:

            async def fail() -> None:
                await failing.wait()
                raise ConnectionError("the pool is gone")

            tasks.start_soon(fail)
            yield

    group = HandlerGroup(lifespan=breaking)

    @group.handler("work")
    async def work(_payload: dict[str, Any], _ctx: Context) -> str:
        failing.set()
        await anyio.sleep(5)
        return "finished"

    request = await world.enqueue("work")
    with pytest.raises(LifespanError, match=r"group of work: ExceptionGroup.*the pool is gone"):
        await world.app([group]).run()
    assert (await world.get(request)).result == {"data": "finished"}
    assert len(world.recorder.of(LifespanFailed)) == 1


@virtual_time
async def test_leaving_a_lifespan_has_a_timeout(world: World) -> None:
    """It is cancelled after five seconds, and an event is emitted."""
    cancelled: list[bool] = []

    @asynccontextmanager
    async def sticky() -> AsyncIterator[None]:
        yield
        try:
            await anyio.sleep(3600)
        except anyio.get_cancelled_exc_class():
            cancelled.append(True)
            raise

    group = HandlerGroup(lifespan=sticky)
    group.handler("report")(nothing)
    async with running(world.app([group])):
        began = anyio.current_time()
    assert anyio.current_time() - began == pytest.approx(5, abs=0.5)
    assert cancelled == [True]
    (failed,) = world.recorder.of(LifespanFailed)
    assert "not left within 5 s" in str(failed.error)
    assert world.left == []


@virtual_time
async def test_a_pause_does_not_use_up_the_time_for_leaving(world: World) -> None:
    """A process that was paused goes on leaving its lifespans."""
    left: list[bool] = []

    @asynccontextmanager
    async def flushing() -> AsyncIterator[None]:
        yield
        await anyio.sleep(0.1)
        pause_process(3600)
        await anyio.sleep(0.1)
        left.append(True)

    group = HandlerGroup(lifespan=flushing)
    group.handler("report")(nothing)
    async with running(world.app([group])):
        pass
    assert left == [True]
    assert world.recorder.of(LifespanFailed) == []


@virtual_time
async def test_a_lifespan_that_ignores_cancellation_does_not_keep_the_process(world: World) -> None:
    """The process ends without it."""
    released = anyio.Event()

    @asynccontextmanager
    async def stubborn() -> AsyncIterator[None]:
        yield
        with anyio.CancelScope(shield=True):
            await released.wait()

    group = HandlerGroup(lifespan=stubborn)
    group.handler("report")(nothing)
    app = world.app([group])
    async with anyio.create_task_group() as tasks:
        await tasks.start(app.run)
        app.stop()
        await anyio.sleep(10)
        assert world.left == [True]
        released.set()


async def test_an_error_on_leaving_is_only_emitted(world: World) -> None:
    """The work of the worker is done by then."""

    @asynccontextmanager
    async def clumsy() -> AsyncIterator[None]:
        yield
        raise OSError("already closed")

    group = HandlerGroup(lifespan=clumsy)
    group.handler("report")(nothing)
    async with running(world.app([group])):
        pass
    (failed,) = world.recorder.of(LifespanFailed)
    assert (failed.actions, str(failed.error)) == ("report", "already closed")


def test_a_lifespan_must_be_a_function() -> None:
    """An open context manager could be entered only once."""
    with pytest.raises(TypeError, match="lifespan must be a function"):
        HandlerGroup(lifespan=5)  # type: ignore[arg-type]


def test_entry_points_name_groups_and_middleware(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All handlers of a group are loaded. Middleware is in the order of the entry points' names."""
    (tmp_path / "plug_group.py").write_text(
        """
from streamer_worker import HandlerGroup

async def inner(call, request, ctx): ...
async def first(call, request, ctx): ...
async def second(call, request, ctx): ...
def wrong(call, request, ctx): ...

group = HandlerGroup(middleware=[inner])
empty = HandlerGroup()

@group.handler("a")
async def a(payload, ctx): ...

@group.handler("b")
async def b(payload, ctx): ...
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def point(name: str, attribute: str) -> EntryPoint:
        return EntryPoint(name=name, value=f"plug_group:{attribute}", group="any")

    around = [point("20-second", "second"), point("10-first", "first")]
    handlers = load_handlers([point("all", "group")], around)
    assert sorted(handlers) == ["a", "b"]
    assert [function.__name__ for function in handlers["a"].middleware] == [
        "first",
        "second",
        "inner",
    ]
    with pytest.raises(HandlerLoadError, match="HandlerGroup without handlers"):
        load_handlers([point("none", "empty")], [])
    with pytest.raises(HandlerLoadError, match=r"wrong = plug_group:wrong.*async function"):
        load_handlers([], [point("wrong", "wrong")])
