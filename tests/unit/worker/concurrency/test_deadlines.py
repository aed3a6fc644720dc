"""Waiting for time in which the process runs."""

from __future__ import annotations

import anyio
import pytest

from streamer_worker.concurrency.deadlines import ended_within
from unit.worker.harness import pause_process, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]


async def test_it_returns_whether_the_wait_ended() -> None:
    """As soon as it has, or after all the time."""
    event = anyio.Event()
    assert not await ended_within(5, event.wait)
    assert anyio.current_time() == pytest.approx(5)
    event.set()
    assert await ended_within(5, event.wait)
    assert anyio.current_time() == pytest.approx(5)


async def test_a_pause_uses_up_a_tenth_of_the_time() -> None:
    """What is waited for may need all of the remaining time after the process has continued."""
    event = anyio.Event()

    async def work() -> None:
        pause_process(3600)
        await anyio.sleep(4)
        event.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        assert await ended_within(5, event.wait)
