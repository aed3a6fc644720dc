"""A whole worker over stores in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.request import urlopen

import anyio
import pytest

from streamer_store import AsyncRequest, Connection, Difference, RequestStatus
from streamer_worker import Context, Handler, handler
from streamer_worker.app import App, open_app, store_arguments
from streamer_worker.errors import StartError, TablesError
from streamer_worker.events import (
    ConnectionsReaped,
    RequestFinished,
    RequestStarted,
    SlotsChanged,
    StepFailed,
    TableDiffers,
    WorkerDraining,
    WorkerStarted,
    WorkerStopped,
)
from streamer_worker.settings import HttpSettings, ReaperSettings, Settings
from unit.worker.harness import PATIENCE, Waiting, World, echo

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(app: App) -> AsyncIterator[str | None]:
    """Run a worker; it is stopped at the end, and must then end by itself."""
    async with anyio.create_task_group() as tasks:
        url: str | None = await tasks.start(app.run)
        yield url
        app.stop()


async def statuses(world: World, requests: Iterable[AsyncRequest]) -> set[RequestStatus]:
    found = await world.stores.requests.get_many(each.request_id for each in requests)
    return {each.status for each in found.values()}


async def test_a_whole_life(world: World) -> None:
    """Requests that wait, and those that come later, end as their handlers say."""

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> dict[str, int]:
        await ctx.progress(0.5, "half")
        return {"rows": 3}

    @handler("fail")
    async def fail(_payload: dict[str, Any], _ctx: Context) -> None:
        raise ValueError("no rows")

    early = await world.enqueue("steps")
    async with running(world.app([steps, fail])):
        late = await world.enqueue("fail")
        unknown = await world.enqueue("nobody_knows")
        await world.recorder.wait_for(RequestFinished, 3)
    done, failed, invalid = [await world.get(each) for each in (early, late, unknown)]
    assert (done.status, done.result, done.progress) == (RequestStatus.COMPLETED, {"rows": 3}, 1)
    assert done.progress_message == "half"
    assert (failed.status, failed.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
    assert failed.error == "no rows"
    assert invalid.error_code == "INVALID_ACTION"


async def test_many_requests_run_within_the_concurrency(world: World) -> None:
    """All are done, never more at once than there are slots."""
    requests = [await world.enqueue() for _ in range(60)]
    async with running(world.app([echo], concurrency=4)):
        await world.recorder.wait_for(RequestFinished, 60)
    assert await statuses(world, requests) == {RequestStatus.COMPLETED}
    used = [each.used for each in world.recorder.of(SlotsChanged)]
    assert (max(used), used[-1]) == (4, 0)


async def test_a_life_is_told(world: World) -> None:
    """Started with its actions, draining, stopped: under one worker id, and in this order."""
    app = world.app([echo])
    async with running(app):
        pass
    started, draining, stopped = [
        each
        for each in world.recorder.events
        if isinstance(each, WorkerStarted | WorkerDraining | WorkerStopped)
    ]
    assert isinstance(started, WorkerStarted)
    assert (started.actions, started.concurrency) == (("echo",), 32)
    assert {each.worker_id for each in (started, draining, stopped)} == {app.worker_id}
    assert isinstance(draining, WorkerDraining)
    assert isinstance(stopped, WorkerStopped)


async def test_worker_ids_begin_with_the_time_and_differ(world: World) -> None:
    """Each incarnation has its own; it is never configured."""
    first, second = world.app().worker_id, world.app().worker_id
    assert first != second
    assert first.startswith(f"{world.clock.now():%Y%m%dT%H%M}")


async def test_a_running_request_names_its_worker(world: World) -> None:
    """The claim bears the worker's id."""
    waiting = Waiting()
    app = world.app([waiting.handler])
    request = await world.enqueue("wait")
    async with running(app):
        await world.recorder.wait_for(RequestStarted)
        assert (await world.get(request)).worker_id == app.worker_id
        waiting.go.set()


async def test_stop_lets_running_handlers_finish(world: World) -> None:
    """And takes no new work meanwhile."""
    waiting = Waiting()
    request = await world.enqueue("wait")
    async with running(world.app([waiting.handler, echo])):
        pass_on = world.recorder.wait_for
        await pass_on(RequestStarted)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_finish_once_draining, world, waiting)
            tasks.start_soon(_stop_at_once, world)
    assert (await world.get(request)).result == {"data": "waited"}
    assert waiting.cancelled == 0


async def _stop_at_once(world: World) -> None:
    await world.recorder.wait_for(RequestStarted)


async def _finish_once_draining(_world: World, waiting: Waiting) -> None:
    waiting.go.set()
