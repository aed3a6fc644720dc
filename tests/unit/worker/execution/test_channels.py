"""The channel between a plain function's context and its worker."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio import from_thread

from streamer_worker import HandlerCancelled, SyncContext, handler
from streamer_worker.events import HandlerStuck, RequestFinished, StuckHandlerEnded
from streamer_worker.settings import HandlerSettings
from streamer_worker.testing import run_handler
from unit.worker.benches import DispatchBench
from unit.worker.faulty_engine import PATIENCE, is_progress
from unit.worker.harness import World, on_asyncio, running

pytestmark = [pytest.mark.anyio, on_asyncio]


async def test_a_sync_context_on_the_event_loop_does_not_block_it() -> None:
    """Progress is accepted there. A checkpoint raises RuntimeError, since it would block the loop
    for ever.
    """

    @handler("work", timeout=5)
    def work(_payload: dict[str, Any], ctx: SyncContext) -> str:
        async def helper() -> None:
            ctx.progress(0.5, "half")
            ctx.checkpoint(1)

        with pytest.raises(RuntimeError, match="from the handler's own thread"):
            from_thread.run(helper)
        ctx.checkpoint(2)
        return "done"

    with anyio.fail_after(PATIENCE):
        run = await run_handler(work)
    assert run.status == "completed"
    assert [progress.message for progress in run.progress] == ["half"]
    assert run.checkpoints == [2]


async def test_a_sync_context_may_be_used_by_any_thread() -> None:
    """Threads that the handler has started may use it, too."""

    @handler("work", timeout=5)
    def work(_payload: dict[str, Any], ctx: SyncContext) -> None:
        def part() -> None:
            ctx.progress(0.5, "half")
            ctx.checkpoint(1)

        thread = threading.Thread(target=part)
        thread.start()
        thread.join()

    run = await run_handler(work)
    assert (run.status, run.checkpoints) == ("completed", [1])


@pytest.mark.parametrize("own_thread", [False, True], ids=["its thread", "one of its own"])
async def test_a_checkpoint_that_waits_for_the_table_ends_with_its_attempt(
    own_thread: bool,  # noqa: FBT001
    world: World,
) -> None:
    """It raises HandlerCancelled in every thread, and no thread keeps waiting."""
    seen: list[str] = []

    @handler("work")
    def work(_payload: dict[str, Any], ctx: SyncContext) -> None:
        def save() -> None:
            try:
                ctx.checkpoint(1)
            except BaseException as error:
                seen.append(type(error).__name__)
                raise

        def save_and_say_nothing() -> None:
            with suppress(HandlerCancelled):
                save()

        if not own_thread:
            save()
        thread = threading.Thread(target=save_and_say_nothing)
        thread.start()
        thread.join()

    rules = HandlerSettings(timeout=0.2, cancel_grace=0.2, threads=1)
    app = world.app([work], handler=rules)
    async with running(app):
        world.engine.fail("update", when=is_progress, times=10**6)
        await world.enqueue("work")
        (finished,) = await world.recorder.wait_for(RequestFinished)
        assert finished.outcome == "timeout"
        with anyio.fail_after(PATIENCE):
            while not seen:  # noqa: ASYNC110  a thread tells of it
                await anyio.sleep(0.01)
        if world.recorder.of(HandlerStuck):
            await world.recorder.wait_for(StuckHandlerEnded)
    assert seen == ["HandlerCancelled"]
    assert len(world.recorder.of(HandlerStuck)) == own_thread
    assert world.left == []


async def test_a_thread_that_is_left_behind_writes_no_checkpoint(world: World) -> None:
    """After the end of its attempt a checkpoint is refused."""
    released, ended = threading.Event(), threading.Event()
    seen: list[type[BaseException]] = []

    @handler("work")
    def work(_payload: dict[str, Any], ctx: SyncContext) -> None:
        def late() -> None:
            assert released.wait(PATIENCE)
            try:
                ctx.checkpoint("late")
            except BaseException as error:  # noqa: BLE001
                seen.append(type(error))
            ended.set()

        threading.Thread(target=late).start()
        raise ValueError("no rows")

    bench = DispatchBench(world, work)
    claim = await world.claim("work", max_retries=3)
    fault = world.engine.hold("update", when=lambda update: "RetryAfter" in update.sets)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, claim)
        await fault.wait_reached()
        released.set()
        await anyio.to_thread.run_sync(ended.wait)
        fault.let_go()
    assert seen == [HandlerCancelled]
    assert (await world.get(claim)).checkpoint is None
