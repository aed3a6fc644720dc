"""A handler can damage only its own request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_worker import (
    Context,
    SyncContext,
    handler,
)
from streamer_worker.events import RequestFinished, RequestStarted
from unit.worker.benches import DispatchBench, Raising
from unit.worker.faulty_engine import PATIENCE
from unit.worker.harness import Waiting, World, echo, on_asyncio, running

pytestmark = pytest.mark.anyio


EVERYTHING = [
    ValueError("no rows"),
    SystemExit("no rows"),
    KeyboardInterrupt("no rows"),
    GeneratorExit("no rows"),
    StopIteration("no rows"),
    BaseExceptionGroup("no rows", [KeyboardInterrupt()]),
]


@on_asyncio
@pytest.mark.parametrize("error", EVERYTHING, ids=lambda error: type(error).__name__)
async def test_any_exception_in_a_thread_fails_only_its_request(
    error: BaseException, world: World
) -> None:
    """A plain function that calls sys.exit() has failed, and its thread is used again."""

    @handler("thread")
    def thread(payload: dict[str, Any], _ctx: SyncContext) -> str:
        if payload["fails"]:
            raise error
        return "done"

    bench = DispatchBench(world, thread)
    claim = await world.claim("thread", payload={"fails": True})
    assert await bench.run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
    assert stored.error
    assert await bench.run(await world.claim("thread", payload={"fails": False})) == "completed"


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt()])
async def test_a_handler_does_not_end_the_worker(error: BaseException, world: World) -> None:
    """sys.exit() and a stray KeyboardInterrupt fail one attempt each. Other requests run."""
    raising = Raising(error)
    failing, other = await world.enqueue("work"), await world.enqueue()
    async with running(world.app([raising.handler, echo])):
        await world.recorder.wait_for(RequestFinished, 2)
        later = await world.enqueue("work")
        await world.recorder.wait_for(RequestFinished, 3)
    assert len(world.recorder.of(RequestStarted)) == 3
    assert (await world.get(failing)).status is RequestStatus.FAILED
    for claim in (other, later):
        assert (await world.get(claim)).status is RequestStatus.COMPLETED


async def numbers() -> AsyncIterator[int]:
    with anyio.fail_after(3600):
        for number in range(10):
            yield number


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_handler_that_leaves_a_cancel_scope_open_damages_no_other(world: World) -> None:
    """An async generator that is not read to its end holds a time limit. Other handlers run."""
    kept: list[AsyncIterator[int]] = []

    @handler("impatient")
    async def impatient(_payload: dict[str, Any], _ctx: Context) -> int:
        source = numbers()
        kept.append(source)
        async for number in source:
            if number == 2:
                return number
        return -1

    waiting = Waiting()
    other = await world.enqueue("wait")
    request = await world.enqueue("impatient")
    async with running(world.app([impatient, waiting.handler, echo])):
        await world.recorder.wait_for(RequestFinished)
        later = await world.enqueue()
        await world.recorder.wait_for(RequestFinished, 2)
        waiting.go.set()
        await world.recorder.wait_for(RequestFinished, 3)
    assert (await world.get(request)).result == {"data": 2}
    for claim in (other, later):
        assert (await world.get(claim)).status is RequestStatus.COMPLETED


@on_asyncio
async def test_a_handler_that_cancels_its_task_and_returns_damages_no_other(world: World) -> None:
    """Its result is stored, and no other task is cancelled."""

    @handler("odd")
    async def odd(_payload: dict[str, Any], _ctx: Context) -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return 1

    request = await world.enqueue("odd")
    async with running(world.app([odd, echo])):
        await world.recorder.wait_for(RequestFinished)
        later = await world.enqueue()
        await world.recorder.wait_for(RequestFinished, 2)
    assert (await world.get(request)).result == {"data": 1}
    assert (await world.get(later)).status is RequestStatus.COMPLETED


@on_asyncio
async def test_a_handler_does_not_outlive_the_task_of_its_claim(world: World) -> None:
    """A plugin may cancel any task. The handler is interrupted, and the request released."""
    started, ended = anyio.Event(), anyio.Event()

    @handler("waits")
    async def waits(_payload: dict[str, Any], _ctx: Context) -> None:
        started.set()
        try:
            await anyio.sleep(60)
        finally:
            ended.set()

    bench = DispatchBench(world, waits)
    claim = await world.claim("waits")
    async with anyio.create_task_group() as tasks:
        task = asyncio.create_task(bench.dispatcher.run_one(bench.assigned(claim), tasks))
        await started.wait()
        task.cancel()
        with anyio.fail_after(PATIENCE):
            assert await task == "released"
    assert ended.is_set()
    assert (await world.get(claim)).status is RequestStatus.PENDING
    assert (bench.slots.held, bench.slots.used) == (0, 0)
