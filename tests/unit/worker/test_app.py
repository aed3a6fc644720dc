"""A whole worker on stores in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any
from urllib.request import urlopen

import anyio
import pytest

from streamer_store import (
    AsyncRequest,
    Difference,
    RequestStatus,
    Retention,
    Stores,
    Undecodable,
    memory_stores,
)
from streamer_store.schema import REQUESTS
from streamer_worker import Context, handler
from streamer_worker.errors import StartError, TablesError
from streamer_worker.events import (
    ConnectionsReaped,
    ItemUndecodable,
    RequestFinished,
    RequestStarted,
    SlotsChanged,
    StepFailed,
    TableMismatch,
    WorkerDraining,
    WorkerStarted,
    WorkerStopped,
)
from streamer_worker.settings import (
    HttpSettings,
    PollSettings,
    ReaperSettings,
    RetentionSettings,
    Settings,
    TableNameSettings,
    store_arguments,
)
from streamer_worker.wiring import open_app
from support import connection
from unit.worker.harness import Recorder, Waiting, World, echo, on_asyncio, running, virtual_time

pytestmark = pytest.mark.anyio


async def statuses(world: World, requests: Iterable[AsyncRequest]) -> set[RequestStatus]:
    stored = await world.stores.requests.get_many(request.request_id for request in requests)
    return {request.status for request in stored.values()}


async def test_requests_run_to_their_ends(world: World) -> None:
    """Requests that waited before the start, and later ones, end as their handlers decide."""

    @handler("steps")
    async def steps(_payload: dict[str, Any], ctx: Context) -> dict[str, int]:
        await ctx.progress(0.5, "half")
        return {"rows": 3}

    @handler("fail")
    async def fail(_payload: dict[str, Any], _ctx: Context) -> None:
        raise ValueError("no rows")

    early = await world.enqueue("steps")
    soon = PollSettings(min_interval=0.001, max_interval=0.005, unknown_action_timeout=0.01)
    async with running(world.app([steps, fail], poll=soon)):
        late = await world.enqueue("fail")
        unknown = await world.enqueue("nobody_knows")
        await world.recorder.wait_for(RequestFinished, 3)
    done, failed, invalid = [await world.get(request) for request in (early, late, unknown)]
    assert (done.status, done.result, done.progress) == (RequestStatus.COMPLETED, {"rows": 3}, 1)
    assert done.progress_message == "half"
    assert (failed.status, failed.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
    assert failed.error == "no rows"
    assert invalid.error_code == "INVALID_ACTION"


async def test_many_requests_run_within_the_concurrency(world: World) -> None:
    """60 requests complete with 4 slots, and never more than 4 run at once."""
    requests = [await world.enqueue() for _ in range(60)]
    async with running(world.app([echo], concurrency=4)):
        await world.recorder.wait_for(RequestFinished, 60)
    assert await statuses(world, requests) == {RequestStatus.COMPLETED}
    used = [event.used for event in world.recorder.of(SlotsChanged)]
    assert (max(used), used[-1]) == (4, 0)


async def test_start_drain_and_stop_are_events(world: World) -> None:
    """WorkerStarted, WorkerDraining and WorkerStopped have one worker id, in this order."""
    async with running(world.app([echo])):
        pass
    started, draining, stopped = [
        event
        for event in world.recorder.events
        if isinstance(event, WorkerStarted | WorkerDraining | WorkerStopped)
    ]
    assert isinstance(started, WorkerStarted)
    assert (started.actions, started.concurrency) == (("echo",), 32)
    assert (started.endpoint, started.account) == (None, None)  # the stores are in memory
    assert (started.table_prefix, started.release) == ("streamer_", version("streamer-worker"))
    assert len({event.worker_id for event in (started, draining, stopped)}) == 1
    assert isinstance(draining, WorkerDraining)
    assert isinstance(stopped, WorkerStopped)


async def test_worker_ids_begin_with_the_time_and_differ(world: World) -> None:
    """Two incarnations have different ids, which begin with their start time."""
    for _ in range(2):
        async with running(world.app()):
            pass
    first, second = [event.worker_id for event in world.recorder.of(WorkerStarted)]
    assert first != second
    assert first.startswith(f"{world.clock.now():%Y%m%dT%H%M}")


async def test_a_running_request_names_its_worker(world: World) -> None:
    """A claimed request has the worker's id."""
    waiting = Waiting()
    app = world.app([waiting.handler])
    request = await world.enqueue("wait")
    async with running(app):
        await world.recorder.wait_for(RequestStarted)
        (started,) = world.recorder.of(WorkerStarted)
        assert (await world.get(request)).worker_id == started.worker_id
        waiting.go.set()


async def silent_connection(world: World, name: str) -> None:
    long_ago = world.clock.now() - timedelta(days=1)
    await world.stores.connections.save(connection(name, connected_at=long_ago, last_ping=long_ago))


@pytest.mark.parametrize(("dry_run", "left"), [(False, 0), (True, 1)])
async def test_stale_connections_are_deleted(world: World, *, dry_run: bool, left: int) -> None:
    """The first sweep runs at the start. A dry run only counts."""
    await silent_connection(world, "old")
    async with running(world.app(reaper=ReaperSettings(dry_run=dry_run))):
        (reaped,) = await world.recorder.wait_for(ConnectionsReaped)
    assert (reaped.found, reaped.dry_run) == (1, dry_run)
    assert len(await world.stores.connections.list_by_user("u")) == left


@virtual_time
async def test_the_reaper_runs_again_after_its_interval(world: World) -> None:
    """A connection that became stale meanwhile is deleted by the second sweep."""
    rarely = PollSettings(min_interval=60.0, max_interval=60.0)
    async with running(world.app(reaper=ReaperSettings(interval=600.0), poll=rarely)):
        await world.recorder.wait_for(ConnectionsReaped)
        began = anyio.current_time()
        await silent_connection(world, "old")
        await world.recorder.wait_for(ConnectionsReaped, 2, within=3600)
        assert anyio.current_time() - began == pytest.approx(600, abs=1)
    assert await world.stores.connections.list_by_user("u") == []


async def test_a_disabled_reaper_does_not_run(world: World) -> None:
    """With reaper.enabled = false no connections are deleted."""
    await silent_connection(world, "old")
    await world.enqueue()
    async with running(world.app([echo], reaper=ReaperSettings(enabled=False))):
        await world.recorder.wait_for(RequestFinished)
    assert world.recorder.of(ConnectionsReaped) == []


@virtual_time
async def test_an_outage_of_the_table_does_not_end_the_worker(world: World) -> None:
    """Loops emit StepFailed during the outage, and continue after it."""
    app = world.app([echo], reaper=ReaperSettings())
    async with running(app):
        world.engine.fail("query", times=10)
        world.engine.fail("scan", times=10)
        request = await world.enqueue()
        await world.recorder.wait_for(RequestFinished, within=3600)
    assert (await world.get(request)).status is RequestStatus.COMPLETED
    assert {event.loop for event in world.recorder.of(StepFailed)} >= {"poll"}


async def test_metrics_can_be_read_while_it_works(world: World) -> None:
    """The URL in WorkerStarted serves the counters of finished requests and slots."""
    await world.enqueue()
    app = world.app([echo], http=HttpSettings(host="127.0.0.1", port=0))
    async with running(app) as url:
        assert url is not None
        await world.recorder.wait_for(RequestFinished)
        with urlopen(url, timeout=5) as answer:  # noqa: S310, ASYNC210  our own, on a thread
            page = answer.read().decode()
    counted = 'streamer_worker_requests_finished_total{action="echo",outcome="completed"} 1.0'
    assert counted in page
    assert 'streamer_worker_slots{state="free"} 32.0' in page
    (started,) = world.recorder.of(WorkerStarted)
    assert started.metrics_url == url


async def test_slots_are_on_the_page_before_the_first_request(world: World) -> None:
    """An idle worker shows its used slots as 0."""
    async with running(world.app(http=HttpSettings(host="127.0.0.1", port=0))) as url:
        assert url is not None
        with urlopen(url, timeout=5) as answer:  # noqa: S310, ASYNC210  our own, on a thread
            assert 'streamer_worker_slots{state="used"} 0.0' in answer.read().decode()


async def test_wrong_tables_stop_the_start(world: World) -> None:
    """TablesError lists every blocking difference, and no request is claimed."""
    request = await world.enqueue()
    world.engine.differences = [
        Difference("streamer_requests", "does not exist", blocking=True),
        Difference("streamer_workers", "does not exist", blocking=True),
        Difference("streamer_connections", "costs more", blocking=False),
    ]
    with pytest.raises(TablesError) as caught:
        await world.app([echo]).run()
    assert len(caught.value.faults) == 2
    assert "streamer_requests" in str(caught.value)
    assert (await world.get(request)).status is RequestStatus.PENDING
    assert world.recorder.of(WorkerStarted) == []


async def test_harmless_differences_of_tables_are_events(world: World) -> None:
    """A difference that is not blocking emits TableMismatch, and the worker runs."""
    world.engine.differences = [Difference("streamer_requests", "costs more", blocking=False)]
    async with running(world.app([echo])):
        pass
    assert world.recorder.of(TableMismatch) == [
        TableMismatch(table="streamer_requests", text="costs more")
    ]


async def test_a_port_in_use_stops_the_start(world: World) -> None:
    """StartError is raised before any request is claimed."""
    request = await world.enqueue()
    async with running(world.app(http=HttpSettings(host="127.0.0.1", port=0))) as url:
        assert url is not None
        port = int(url.split(":")[2].partition("/")[0])
        second = world.app([echo], http=HttpSettings(host="127.0.0.1", port=port))
        with pytest.raises(StartError, match=str(port)):
            await second.run()
    assert (await world.get(request)).status is RequestStatus.PENDING


def unwanted(*arguments: Any) -> None:
    raise AssertionError(f"the process would be ended: {arguments}")


async def test_undecodable_items_are_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """`open_app` emits ItemUndecodable for each item that the stores report."""
    passed: dict[str, Any] = {}

    @asynccontextmanager
    async def open_stores(**arguments: Any) -> AsyncIterator[Stores]:
        passed.update(arguments)
        yield memory_stores()

    monkeypatch.setattr("streamer_worker.wiring.open_stores", open_stores)
    recorder = Recorder()
    opened = open_app(
        Settings(concurrency=50), {"echo": echo}, [recorder], end=unwanted, leave=unwanted
    )
    async with opened:
        passed["report"](Undecodable("Status: odd", table="requests", key="r"))
    assert recorder.of(ItemUndecodable) == [
        ItemUndecodable(table="requests", key="r", reason="Status: odd")
    ]
    assert passed["max_connections"] >= 50


@on_asyncio
async def test_an_app_on_dynamodb_has_its_own_stores() -> None:
    """`open_app` opens stores with the table prefix of the settings."""
    settings = Settings(
        table_prefix="other_", endpoint_url="http://127.0.0.1:9", region="eu-west-1"
    )
    async with open_app(settings, {"echo": echo}, end=unwanted, leave=unwanted) as app:
        assert app.stores.engine.table_name(REQUESTS) == "other_requests"


def test_store_arguments_come_from_the_settings() -> None:
    """They are the endpoint, region, prefix, retention, and whether writes share calls."""
    settings = Settings(
        table_prefix="p_",
        table_names=TableNameSettings(requests="jobs"),
        endpoint_url="http://x",
        region="r",
        batch_writes=False,
        retention=RetentionSettings(completed=60, failed=120, cancelled=180),
    )
    assert store_arguments(settings) == {
        "endpoint_url": "http://x",
        "region": "r",
        "prefix": "p_",
        "table_names": {"requests": "jobs"},
        "batch_writes": False,
        "retention": Retention(
            completed=timedelta(minutes=1),
            failed=timedelta(minutes=2),
            cancelled=timedelta(minutes=3),
        ),
    }
