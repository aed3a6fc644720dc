"""A test enters the lifespan of a group only if it asks for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from streamer_worker import CallNext, Context, HandlerGroup, handler
from streamer_worker.testing import memory_worker, run_handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamer_store import AsyncRequest

pytestmark = pytest.mark.anyio


class Application:
    """A group with a lifespan that opens a database, and a handler that returns its state."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.group = HandlerGroup(lifespan=self.open_database, middleware=[self.recording])

        @self.group.handler("state")
        async def state(_payload: dict[str, Any], ctx: Context[str]) -> str:
            return ctx.state

        self.handler = state

    @asynccontextmanager
    async def open_database(self) -> AsyncIterator[str]:
        self.calls.append("entered")
        yield "real"
        self.calls.append("left")

    async def recording(
        self, call_next: CallNext, request: AsyncRequest, ctx: Context[str]
    ) -> object:
        self.calls.append(f"middleware {ctx.state}")
        return await call_next(request, ctx)


@pytest.fixture
def application() -> Application:
    return Application()


async def test_a_run_has_the_state_of_the_test(application: Application) -> None:
    """The middleware sees it, too. None is a state."""
    assert (await run_handler(application.handler, state="fake")).result == {"data": "fake"}
    assert (await run_handler(application.handler, state=None)).status == "completed"
    assert application.calls == ["middleware fake", "middleware None"]


async def test_a_run_enters_the_lifespan_if_the_test_asks(application: Application) -> None:
    """And leaves it after the attempt."""
    run = await run_handler(application.handler, enter_lifespan=True)
    assert run.result == {"data": "real"}
    assert application.calls == ["entered", "middleware real", "left"]


async def test_a_run_without_a_state_is_refused(application: Application) -> None:
    """The error names the action, the lifespan, `state` and `enter_lifespan`."""
    with pytest.raises(TypeError) as caught:
        await run_handler(application.handler)
    assert str(caught.value) == (
        "the group of 'state' has a lifespan, Application.open_database. Pass state=... to run the "
        "handler with a state of the test, or enter_lifespan=True to enter the lifespan"
    )
    with pytest.raises(TypeError, match="not both"):
        await run_handler(application.handler, state="fake", enter_lifespan=True)
    assert application.calls == []


async def test_a_group_without_a_lifespan_needs_no_state() -> None:
    """Neither does a handler without a group."""
    group = HandlerGroup[None]()

    @group.handler("grouped")
    async def grouped(_payload: dict[str, Any], ctx: Context[None]) -> str:
        return str(ctx.state)

    @handler("alone")
    async def alone(_payload: dict[str, Any], ctx: Context) -> str:
        return str(ctx.state)

    for each in (grouped, alone):
        assert (await run_handler(each)).result == {"data": "None"}
    async with memory_worker(group, alone) as worker:
        assert (await worker.run("grouped")).result == {"data": "None"}


async def test_a_worker_has_the_states_of_the_test(application: Application) -> None:
    """By group. The middleware of the group is kept."""
    async with memory_worker(application.group, states={application.group: "fake"}) as worker:
        assert (await worker.run("state")).result == {"data": "fake"}
    assert application.calls == ["middleware fake"]


async def test_a_worker_enters_the_lifespans_if_the_test_asks(application: Application) -> None:
    """Except those of groups that have a state."""
    other = Application()
    group = HandlerGroup(lifespan=other.open_database)

    @group.handler("other")
    async def state(_payload: dict[str, Any], ctx: Context[str]) -> str:
        return ctx.state

    async with memory_worker(
        application.group, group, states={group: "fake"}, enter_lifespans=True
    ) as worker:
        assert (await worker.run("state")).result == {"data": "real"}
        assert (await worker.run("other")).result == {"data": "fake"}
    assert application.calls == ["entered", "middleware real", "left"]
    assert other.calls == []


async def test_a_worker_without_the_states_is_refused(application: Application) -> None:
    """The error names `states` and `enter_lifespans`. A group without handlers is a mistake."""
    with pytest.raises(TypeError, match=r"'state' has a lifespan.*states=.*enter_lifespans=True"):
        async with memory_worker(application.group):
            pytest.fail("the worker has started")
    with pytest.raises(TypeError, match="no handler is passed"):
        async with memory_worker(application.group, states={HandlerGroup[Any](): 1}):
            pytest.fail("the worker has started")
    assert application.calls == []
