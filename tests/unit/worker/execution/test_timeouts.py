"""Attempts that take too long, and handlers that do not end when they are cancelled."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_worker import Context, Handler, SyncContext, handler
from streamer_worker.events import (
    HandlerStuck,
    ProgressWritten,
    RequestFinished,
    SlotsChanged,
    StuckHandlerEnded,
)
from streamer_worker.execution.attempt import Attempt, Interruption
from streamer_worker.settings import HandlerSettings
from unit.worker.execution.processes import functions
from unit.worker.faulty_engine import PATIENCE
from unit.worker.harness import Waiting, World, on_asyncio, pause_process, running, virtual_time

pytestmark = pytest.mark.anyio
QUICK = HandlerSettings(timeout=0.2, cancel_grace=0.2, threads=2)


class Refusing:
    """An async handler that ignores cancellation until it is released."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.handler = handler("refuse")(self._run)

    async def _run(self, _payload: dict[str, Any], _ctx: Context) -> str:
        with anyio.CancelScope(shield=True):
            await self.go.wait()
        return "late"


class Threads:
    """A plain function that blocks its thread until it is released."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.go = threading.Event()
        self.now = self.most = 0
        self.saw_cancelled = False
        self.handler = handler("thread")(self._run)

    def _run(self, _payload: dict[str, Any], ctx: SyncContext) -> str:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        assert self.go.wait(PATIENCE)
        with self._lock:
            self.now -= 1
            self.saw_cancelled |= ctx.cancelled
        return "late"


async def _finished(world: World, times: int = 1) -> list[RequestFinished]:
    return await world.recorder.wait_for(RequestFinished, times)


@virtual_time
async def test_an_attempt_that_takes_too_long_fails(world: World) -> None:
    """The code is TIMEOUT, and the handler is cancelled."""
    waiting = Waiting()
    async with running(world.app([waiting.handler], handler=HandlerSettings(timeout=10))):
        request = await world.enqueue("wait")
        (finished,) = await _finished(world)
    assert (finished.outcome, waiting.cancelled) == ("timeout", 1)
    assert finished.seconds == pytest.approx(10, abs=0.1)
    stored = await world.get(request)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "TIMEOUT")


@virtual_time
async def test_a_handlers_own_timeout_replaces_the_setting(world: World) -> None:
    """While retries are left the request is retried, and keeps the error meanwhile."""
    waiting = Waiting()
    short = Handler(action="wait", function=waiting.handler.function, timeout=3)
    async with running(world.app([short])):
        request = await world.enqueue("wait", max_retries=1)
        (first,) = await _finished(world)
        assert first.seconds == pytest.approx(3, abs=0.1)
        stored = await world.get(request)
        assert (stored.status, stored.error_code) == (RequestStatus.RETRYING, "TIMEOUT")
        assert "3 s" in str(stored.error)
        await _finished(world, 2)
    stored = await world.get(request)
    assert (stored.status, stored.retry_count, waiting.started) == (RequestStatus.FAILED, 1, 2)


@virtual_time
async def test_a_handler_that_refuses_to_end_is_reported_and_left_behind(world: World) -> None:
    """Its request is settled and its slot is free. Its later result is not written."""
    refusing = Refusing()
    app = world.app([refusing.handler], concurrency=1, handler=QUICK)
    async with running(app):
        request = await world.enqueue("refuse")
        (finished,) = await _finished(world)
        assert finished.outcome == "timeout"
        (stuck,) = world.recorder.of(HandlerStuck)
        assert (stuck.request_id, stuck.reason, stuck.thread) == (
            request.request_id,
            "timeout",
            False,
        )
        assert world.recorder.of(SlotsChanged)[-1].used == 0
        refusing.go.set()
        await world.recorder.wait_for(StuckHandlerEnded)
    assert (await world.get(request)).error_code == "TIMEOUT"
    assert world.left == []


@virtual_time
async def test_a_pause_does_not_use_up_the_grace_period(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is paused just after an interruption, before the handler could run. It still has
    time to clean up.
    """
    attempt = Attempt(claim=await world.claim(), handler=Waiting().handler, draining=lambda: False)

    async def clean_up() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(4)

    async def pause() -> None:
        pause_process(60)

    async with anyio.create_task_group() as tasks:
        interrupt = attempt.interrupt

        def interrupt_and_pause(reason: Interruption) -> None:
            interrupt(reason)
            tasks.start_soon(pause)

        monkeypatch.setattr(attempt, "interrupt", interrupt_and_pause)
        attempt.start(clean_up, tasks)
        await attempt.wait(10)
        await attempt.wait_grace(5)
        assert attempt.is_done


@virtual_time
async def test_a_handler_that_never_ends_does_not_keep_the_worker(world: World) -> None:
    """The worker asks for the end of the process, since the task cannot be ended."""
    refusing = Refusing()
    app = world.app([refusing.handler], handler=QUICK)
    async with anyio.create_task_group() as tasks:
        await tasks.start(app.run)
        await world.enqueue("refuse")
        await _finished(world)
        app.stop()
        with anyio.fail_after(PATIENCE):
            while not world.left:  # noqa: ASYNC110  nobody tells of it
                await anyio.sleep(0.1)
        refusing.go.set()


@on_asyncio
async def test_a_thread_that_refuses_to_end_keeps_its_slot(world: World) -> None:
    """Its request is settled. The slot is free when the thread has ended."""
    threads = Threads()
    async with running(world.app([threads.handler], concurrency=1, handler=QUICK)):
        request = await world.enqueue("thread")
        await _finished(world)
        assert world.recorder.of(SlotsChanged)[-1].used == 1
        assert (await world.get(request)).error_code == "TIMEOUT"
        threads.go.set()
        await world.recorder.wait_for(StuckHandlerEnded)
        assert world.recorder.of(SlotsChanged)[-1].used == 0


@on_asyncio
async def test_a_thread_is_counted_until_it_ends(world: World) -> None:
    """With a limit of two, two threads run at most, also when all have timed out."""
    threads = Threads()
    app = world.app([threads.handler], handler=QUICK)
    async with running(app):
        for _ in range(6):
            await world.enqueue("thread")
        await world.recorder.wait_for(HandlerStuck, 2)
        assert world.recorder.of(SlotsChanged)[-1].used == 2
        threads.go.set()
        await world.recorder.wait_for(StuckHandlerEnded, 2)
        await _finished(world, 6)
    outcomes = sorted(event.outcome for event in world.recorder.of(RequestFinished))
    assert outcomes == ["completed"] * 4 + ["timeout"] * 2
    assert threads.most <= 2
    assert threads.saw_cancelled


@on_asyncio
async def test_a_plain_function_returns_and_reports(world: World) -> None:
    """Progress is written from its thread."""

    @handler("plain")
    def plain(payload: dict[str, Any], ctx: SyncContext) -> dict[str, Any]:
        ctx.progress(0.5, "half")
        return {"thread": threading.current_thread() is threading.main_thread()} | payload

    async with running(world.app([plain])):
        request = await world.enqueue("plain", payload={"n": 1})
        await _finished(world)
    stored = await world.get(request)
    assert (stored.result, stored.progress_message) == ({"thread": False, "n": 1}, "half")


@on_asyncio
async def test_a_process_has_half_of_the_grace(world: World, tmp_path: Path) -> None:
    """A handler that cleans up within it ends by itself. Another one is killed and is not stuck."""
    cleaned = tmp_path / "cleaned"
    handlers = [
        handler("cleans", process=True)(functions.cleans_up),
        handler("stays", process=True)(functions.stubborn),
    ]
    settings = HandlerSettings(cancel_grace=4, processes=2)
    async with running(app := world.app(handlers, handler=settings)):
        await world.enqueue("cleans", payload={"file": str(cleaned), "seconds": 0.5})
        await world.enqueue("stays")
        await world.recorder.wait_for(ProgressWritten, 2)
        began = world.clock.steady()
        app.stop()
        app.stop()
        await _finished(world, 2)
        took = world.clock.steady() - began
    assert cleaned.exists()
    assert 2 <= took < 4
    assert world.recorder.of(HandlerStuck) == []


@virtual_time
@pytest.mark.parametrize(("seconds", "starts"), [(10, 1), (60, 2)], ids=["short", "fenced"])
async def test_a_pause_does_not_use_up_the_timeout(
    world: World, seconds: float, starts: int
) -> None:
    """A handler goes on after a short pause. After a longer one the worker fences itself, and the
    request runs again without a used attempt.
    """
    started: list[float] = []

    @handler("work", timeout=3)
    async def work(_payload: dict[str, Any], _ctx: Context) -> str:
        started.append(anyio.current_time())
        await anyio.sleep(2.2)
        if len(started) == 1:
            pause_process(seconds)
            await anyio.sleep(0.1)
        return "done"

    request = await world.enqueue("work", max_retries=3)
    async with running(world.app([work])):
        await world.recorder.wait_for(RequestFinished, starts, within=600)
    stored = await world.get(request)
    assert (stored.status, stored.retry_count, len(started)) == (
        RequestStatus.COMPLETED,
        0,
        starts,
    )
