"""Middleware of a worker and of its handler groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from streamer_store import AsyncRequest
from streamer_worker import CallNext, Context, HandlerGroup, Reject
from unit.worker.handlers.group_bench import finished, nothing
from unit.worker.harness import World, running

pytestmark = pytest.mark.anyio


def recording(name: str, calls: list[str]) -> Any:
    async def middleware(call: CallNext, request: AsyncRequest, ctx: Context) -> Any:
        calls.append(f"{name} before {request.action}")
        result = await call(request, ctx)
        calls.append(f"{name} after")
        return {name: result}

    return middleware


async def test_middleware_is_called_from_the_worker_inwards(world: World) -> None:
    """The worker's middleware first, then the group's, each in its order, then the handler."""
    calls: list[str] = []
    group = HandlerGroup(middleware=[recording("outer", calls), recording("inner", calls)])

    @group.handler("work")
    async def work(_payload: dict[str, Any], _ctx: Context) -> str:
        calls.append("handler")
        return "done"

    async with running(world.app([group], [recording("worker", calls)])):
        request = await finished(world, "work")
    assert calls == [
        "worker before work",
        "outer before work",
        "inner before work",
        "handler",
        "inner after",
        "outer after",
        "worker after",
    ]
    assert request.result == {"worker": {"outer": {"inner": "done"}}}


class Order(BaseModel):
    number: int


async def test_middleware_may_change_payload_and_context(world: World) -> None:
    """The payload that it passes on is checked after that."""

    async def unpack(call: CallNext, request: AsyncRequest, ctx: Context) -> Any:
        payload = {"number": (request.payload or {})["packed"]}
        return await call(replace(request, payload=payload), replace(ctx, state="from middleware"))

    group = HandlerGroup(middleware=[unpack])

    @group.handler("work")
    async def work(payload: Order, ctx: Context) -> list[Any]:
        return [payload.number, ctx.state]

    async with running(world.app([group])):
        assert (await finished(world, "work", payload={"packed": 7})).result == {
            "data": [7, "from middleware"]
        }
        assert (await finished(world, "work", payload={"packed": "x"})).error_code == (
            "VALIDATION_ERROR"
        )


async def test_middleware_may_return_or_raise_itself(world: World) -> None:
    """The handler is then not called. An exception counts as one of the handler."""
    called: list[str] = []

    async def guard(call: CallNext, request: AsyncRequest, ctx: Context) -> Any:
        match request.tenant_id:
            case "blocked":
                raise Reject("this tenant is blocked", code="BLOCKED")
            case "cached":
                return {"cached": True}
        return await call(request, ctx)

    group = HandlerGroup(middleware=[guard])

    @group.handler("work")
    async def work(_payload: dict[str, Any], ctx: Context) -> None:
        called.append(str(ctx.tenant_id))

    async with running(world.app([group])):
        assert (await finished(world, "work", tenant_id="blocked")).error_code == "BLOCKED"
        assert (await finished(world, "work", tenant_id="cached")).result == {"cached": True}
        await finished(world, "work", tenant_id="good")
    assert called == ["good"]


async def _two(call: Any, request: Any) -> None: ...


def _plain_middleware(call: Any, request: Any, ctx: Any) -> None: ...


@pytest.mark.parametrize("wrong", [_two, _plain_middleware, "text", nothing])
def test_middleware_of_another_shape_is_refused(wrong: Any) -> None:
    """It raises where the group is defined."""
    with pytest.raises(TypeError, match="middleware"):
        HandlerGroup(middleware=[wrong])
