"""Whole workers and requests that run later, in virtual time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest, Priority, RequestStatus
from streamer_worker import handler
from streamer_worker.events import RequestFinished
from streamer_worker.handlers.context import Context
from unit.worker.harness import World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
PRIORITIES = (None, *Priority)


@pytest.mark.parametrize("due_index", [True, False], ids=["with DueIndex", "without"])
async def test_a_request_starts_at_its_time(world: World, *, due_index: bool) -> None:
    """Not earlier, and a second late at most, also after a quiet time."""
    world.engine.inner.missing_indexes = set() if due_index else {"DueIndex"}
    started: dict[str, Any] = {}

    @handler("later")
    async def later(_payload: dict[str, Any], ctx: Context) -> None:
        started[ctx.request_id] = world.clock.now()

    async with running(world.app([later])):
        due = {}
        for number, priority in enumerate(PRIORITIES):
            for delay in (0.2, 3.0, 20.0):
                request_id = f"{number}-{delay}"
                stored = await world.stores.requests.enqueue(
                    AsyncRequest(action="later", request_id=request_id, priority=priority),
                    delay=timedelta(seconds=delay),
                )
                due[request_id] = stored.retry_after
        await world.recorder.wait_for(RequestFinished, len(due), within=60)
    late = [(started[request_id] - due[request_id]).total_seconds() for request_id in due]
    assert min(late) >= 0
    assert max(late) <= 1


async def test_a_rescheduled_request_keeps_to_its_new_time(world: World) -> None:
    """Later, and sooner."""
    async with running(world.app([echo])):
        queue = world.stores.requests
        for name in ("later", "sooner"):
            await queue.enqueue(
                AsyncRequest(action="echo", request_id=name), delay=timedelta(seconds=10)
            )
        await queue.reschedule("later", delay=timedelta(seconds=20))
        await queue.reschedule("sooner", delay=timedelta(seconds=2))
        await anyio.sleep(3.1)
        assert (await queue.get("sooner")).status is RequestStatus.COMPLETED
        await anyio.sleep(15)
        assert (await queue.get("later")).status is RequestStatus.SCHEDULED
        await anyio.sleep(3)
        assert (await queue.get("later")).status is RequestStatus.COMPLETED
