"""Processes of the pool: their number, their reuse, and how calls end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamer_worker.events import ChildEnded, ChildStarted, Events
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.execution.processes.protocol import WorkerCrashed
from unit.worker.execution.processes import functions
from unit.worker.execution.processes.pool_bench import (
    FACTS,
    GRACE,
    PARENT,
    Bench,
    RecordingChannel,
    anyio_backend,
    bench,
    gone,
    shared_pool,
    warm,
)
from unit.worker.faulty_engine import PATIENCE
from unit.worker.harness import Recorder

__all__ = ["anyio_backend", "bench", "shared_pool", "warm"]
pytestmark = pytest.mark.anyio


async def test_a_process_is_used_again(bench: Bench) -> None:
    """It is not the worker's own process."""
    first = await bench.run(functions.pid)
    assert first == await bench.run(functions.pid)
    assert first != os.getpid()
    assert len(bench.recorder.of(ChildStarted)) == 1


@pytest.mark.parametrize(
    ("how", "text"), [("kill", r"signal 9 \(SIGKILL\)"), ("exit", "exit code 7")]
)
async def test_a_process_that_dies_fails_only_its_call(bench: Bench, how: str, text: str) -> None:
    """Another process continues, and the next call has a new process."""
    other = RecordingChannel()
    async with anyio.create_task_group() as tasks:
        done: list[Any] = []

        async def run_other() -> None:
            done.append(await bench.run(functions.until_draining, None, other))

        tasks.start_soon(run_other)
        await other.until_reported()
        with pytest.raises(WorkerCrashed, match=text):
            await bench.run(functions.dies, how)
        assert await bench.run(functions.double, 1) == [1, "r1", 2, {"trace": 1}, [5]]
        other.draining = True
    assert done == ["drained"]
    (ended,) = bench.recorder.of(ChildEnded)
    assert "of the handler" in ended.reason


async def cancelled(
    bench: Bench, function: Callable[..., Any], payload: Any, *, stopped: bool = False
) -> int:
    """Cancel a call once it has reported its process id, which is returned."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, function, payload)
        pid = await bench.channel.pid()
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        tasks.cancel_scope.cancel()
    return pid


@pytest.mark.parametrize("stopped", [False, True])
async def test_cancelling_ends_the_process(bench: Bench, *, stopped: bool) -> None:
    """Even one that ignores cancellation, or is stopped."""
    began = anyio.current_time()
    await gone(await cancelled(bench, functions.stubborn, None, stopped=stopped))
    assert anyio.current_time() - began < GRACE + 5
    assert (await bench.run(functions.double, 1))[0] == 1


async def test_a_handler_may_clean_up_when_it_is_cancelled(bench: Bench, tmp_path: Path) -> None:
    """It sees `cancelled`, and its next progress raises HandlerCancelled."""
    await cancelled(bench, functions.cooperative, str(tmp_path / "told"))
    assert (tmp_path / "told").read_text() == "cleaned up"


async def test_a_result_after_the_cancellation_counts(bench: Bench) -> None:
    """As a thread's does. The process serves the next call."""
    results: list[str] = []

    async def run(scope: anyio.CancelScope) -> None:
        with scope:
            results.append(await bench.run(functions.returns_late))

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, scope)
        await bench.channel.until_reported()
        scope.cancel()
    assert results == ["finished"]
    assert (await bench.run(functions.double, 1))[0] == 1
    assert len(bench.recorder.of(ChildStarted)) == 1


async def test_subprocesses_of_a_handler_end_with_it(bench: Bench, tmp_path: Path) -> None:
    """They are killed with the process."""
    await cancelled(bench, functions.grandchild, str(tmp_path / "pid"))
    await gone(int((tmp_path / "pid").read_text()))


async def test_a_child_ignores_signals_to_the_group(warm: Bench) -> None:
    """Its worker decides when it ends. Processes that the handler starts do not ignore them."""
    assert await warm.run(functions.signalled) == -signal.SIGTERM


async def test_the_limit_holds(bench: Bench) -> None:
    """The third of three calls waits for one of two processes."""
    channels = [RecordingChannel() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for channel in channels[:2]:
            tasks.start_soon(bench.run, functions.until_draining, None, channel)
            await channel.until_reported()
        tasks.start_soon(bench.run, functions.until_draining, None, channels[2])
        await anyio.wait_all_tasks_blocked()
        channels[0].draining = True
        await channels[2].until_reported()
        assert len(bench.recorder.of(ChildStarted)) == 2
        channels[1].draining = channels[2].draining = True


async def test_calls_that_come_at_once_have_a_process_each(bench: Bench) -> None:
    """No call gets a process that another has just started and not yet used."""
    channels = [RecordingChannel() for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, functions.until_draining, None, channels[0])
        await bench.recorder.wait_for(ChildStarted)
        tasks.start_soon(bench.run, functions.until_draining, None, channels[1])
        for channel in channels:
            await channel.until_reported()
        for channel in channels:
            channel.draining = True
    assert len(bench.recorder.of(ChildStarted)) == 2


async def test_a_process_that_died_idle_is_not_used(bench: Bench) -> None:
    """No call fails because of it."""
    pid = await bench.run(functions.pid)
    os.kill(pid, signal.SIGKILL)
    await gone(pid)
    assert await bench.run(functions.pid) != pid


async def test_a_start_that_is_cancelled_leaves_nothing(bench: Bench) -> None:
    """The next calls have their processes."""
    for _ in range(3):
        with anyio.move_on_after(0.05):
            await bench.run(functions.stubborn)
    with anyio.fail_after(PATIENCE):
        assert await bench.run(functions.double, 1)
    for started in bench.recorder.of(ChildStarted)[:-1]:
        await gone(started.pid)


async def test_no_process_is_left_at_the_end() -> None:
    """Neither an idle nor a busy one."""
    recorder = Recorder()
    async with Processes(limit=1, log=None, events=Events(recorder), grace=GRACE) as pool:
        await pool.run(functions.pid, None, FACTS, RecordingChannel())
    (started,) = recorder.of(ChildStarted)
    await gone(started.pid)


async def test_a_killed_parent_leaves_no_process_behind() -> None:
    """Although the child is busy."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(  # noqa: ASYNC220, S603
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        pid = int(await anyio.to_thread.run_sync(parent.stdout.readline))
        parent.send_signal(signal.SIGKILL)
    await gone(pid)


async def test_local_variables_of_a_function_that_raised_are_freed(bench: Bench) -> None:
    """In its process, without the garbage collector."""
    for _ in range(2):
        with pytest.raises(ValueError, match="Local"):
            await bench.run(functions.fails_with_local)
    assert await bench.run(functions.locals_made_and_alive) == [2, 0]
