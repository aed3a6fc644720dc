"""Threads that an incarnation of a worker has left behind count in the next one."""

from __future__ import annotations

import pytest

from streamer_store import RequestStatus
from streamer_worker.events import (
    HandlerStuck,
    RequestFinished,
    StuckHandlerEnded,
    WorkerFenced,
    WorkerStarted,
)
from streamer_worker.settings import HandlerSettings, PresenceSettings
from unit.worker.execution.test_timeouts import Threads
from unit.worker.harness import World, echo, on_asyncio, running

pytestmark = [pytest.mark.anyio, on_asyncio]
RULES = HandlerSettings(timeout=0.2, cancel_grace=0.2, threads=2)
QUICK = PresenceSettings(heartbeat=0.1, lease=5.0)


async def test_a_fenced_worker_counts_the_threads_that_are_stuck(world: World) -> None:
    """With both threads taken the next incarnation claims no request that needs a thread, until one
    of them has ended. Other requests run.
    """
    threads = Threads()
    app = world.app([threads.handler, echo], handler=RULES, presence=QUICK)
    async with running(app):
        for _ in range(2):
            await world.enqueue("thread")
        await world.recorder.wait_for(HandlerStuck, 2)
        (row,) = await world.stores.workers.list()
        await world.stores.workers.remove(row.worker_id)
        await world.recorder.wait_for(WorkerFenced)
        await world.recorder.wait_for(WorkerStarted, 2)
        third = await world.enqueue("thread")
        for number in range(20):  # each wakes a poll
            await world.enqueue("echo")
            await world.recorder.wait_for(RequestFinished, 3 + number)
        assert (await world.get(third)).status is RequestStatus.PENDING
        threads.go.set()
        await world.recorder.wait_for(StuckHandlerEnded, 2)
        await world.recorder.wait_for(RequestFinished, 23)
    assert (await world.get(third)).status is RequestStatus.COMPLETED
    assert threads.most == 2
