"""A process that sends more than its worker can take has to wait."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from unit.worker.execution.processes import functions
from unit.worker.execution.processes.pool_bench import Bench, RecordingChannel, anyio_backend, bench
from unit.worker.faulty_engine import PATIENCE

__all__ = ["anyio_backend", "bench"]
pytestmark = pytest.mark.anyio


class SlowChannel(RecordingChannel):
    """A channel whose checkpoint waits, as in an outage of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.go = anyio.Event()

    async def checkpoint(self, value: Any) -> None:
        await self.go.wait()
        await super().checkpoint(value)


async def until_inbox_is_full(bench: Bench) -> None:
    with anyio.fail_after(PATIENCE):
        while True:
            for child in bench.pool._children:
                statistics = child.inbox.statistics()
                if statistics.tasks_waiting_send:
                    assert statistics.current_buffer_used == statistics.max_buffer_size == 8
                    return
            await anyio.sleep(0.01)


async def test_progress_waits_while_a_checkpoint_is_written(bench: Bench) -> None:
    """The worker keeps eight messages. The checkpoint, and the newest progress, still arrive."""
    channel = SlowChannel()
    results: list[Any] = []

    async def run() -> None:
        results.append(await bench.run(functions.reports_while_saving, None, channel))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await until_inbox_is_full(bench)
        channel.go.set()
    assert (results, channel.saved) == (["saved"], ["value"])
    assert len(channel.reported) > 8


async def test_a_call_with_a_full_inbox_can_be_cancelled(bench: Bench) -> None:
    """The next call has a process."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, functions.reports_while_saving, None, SlowChannel())
        await until_inbox_is_full(bench)
        tasks.cancel_scope.cancel()
    assert await bench.run(functions.double, 1)
