"""`streamer-worker run` as a real process, with the example plugin."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import pytest

from plugins import plugin
from processes import PROGRAM, Process, page
from streamer_store import AsyncRequest, NotFound, RequestStatus
from streamer_store.transitions import TERMINAL
from support import connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamer_store import Stores

pytestmark = pytest.mark.anyio


async def _until(
    stores: Stores, request_id: str, holds: Callable[[AsyncRequest], bool]
) -> AsyncRequest:
    """Read the request until the condition holds."""
    with anyio.fail_after(30):
        while True:
            request = await stores.requests.get(request_id)
            if holds(request):
                return request
            await anyio.sleep(0.02)


async def _ended(stores: Stores, request_id: str) -> AsyncRequest:
    return await _until(stores, request_id, lambda request: request.status in TERMINAL)


async def _progressed(stores: Stores, request_id: str) -> None:
    await _until(stores, request_id, lambda request: request.progress > 0)


async def _enqueued(stores: Stores, action: str, **payload: object) -> str:
    request = AsyncRequest(action=action, payload=payload)
    return (await stores.requests.enqueue(request)).request_id


async def test_the_example_plugin_answers_requests(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """Its handlers are found through entry points. Results, progress and metrics are there."""
    stores, settings = real
    settings["STREAMER_POLL_UNKNOWN_ACTION_TIMEOUT"] = "1s"
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        started = worker.event("worker_started")
        assert {"count_words", "write_report"} <= set(started["actions"])
        assert started["endpoint"] == settings["STREAMER_ENDPOINT_URL"]
        assert started["table_prefix"] == settings["STREAMER_TABLE_PREFIX"]
        assert (started["region"], started.get("account")) == ("us-east-1", None)
        assert "reports-plugin 0.1.0" in started["distributions"]
        report = await _ended(stores, await _enqueued(stores, "write_report", rows=1000))
        assert report.status is RequestStatus.COMPLETED
        assert report.result is not None
        assert report.result["rows"] == 1000
        assert report.progress_message == "Reading rows"
        assert report.progress_details == {"rows": 750}
        assert report.worker_id == started["worker_id"]
        words = await _ended(stores, await _enqueued(stores, "count_words", text="a b c"))
        assert words.result == {"data": 3}
        unknown = await _ended(stores, await _enqueued(stores, "nobody_knows"))
        assert (unknown.status, unknown.error_code) == (RequestStatus.FAILED, "INVALID_ACTION")
        worker.event("request_finished", request_id=unknown.request_id)
        metrics = await anyio.to_thread.run_sync(page, started["metrics_url"])
        name = "streamer_worker_requests_finished_total"
        assert f'{name}{{action="write_report",outcome="completed"}} 1.0' in metrics
        assert f'{name}{{action="other",outcome="failed"}} 1.0' in metrics
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        worker.event("worker_stopped")


async def test_the_garbage_collector_does_not_walk_what_the_start_has_made(
    real: tuple[Stores, dict[str, str]], tmp_path: Path
) -> None:
    """Cycles that handlers leave behind are still collected."""
    stores, settings = real
    code = """
        import gc
        import weakref

        from streamer_worker import handler

        class Cycle:
            def __init__(self):
                self.itself = self

        @handler("cycles")
        async def cycles(payload, ctx):
            left = [weakref.ref(Cycle()) for _ in range(20_000)]
            alive = sum(ref() is not None for ref in left)
            return {"frozen": gc.get_freeze_count(), "alive": alive}
    """
    path = str(plugin(tmp_path, "cycles", code, "cycles = cycles:cycles"))
    # Not forked: the server of the tests that forks has frozen its heap too.
    with Process("run", executable=PROGRAM, PYTHONPATH=path, **settings):
        request = await _ended(stores, await _enqueued(stores, "cycles"))
    assert request.result is not None
    assert request.result["frozen"] > 50_000
    assert request.result["alive"] < 10_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_handlers_finish(
    real: tuple[Stores, dict[str, str]], plugins: str, number: signal.Signals
) -> None:
    """The running request completes, the waiting one remains PENDING, and the exit code is 0."""
    stores, settings = real
    with Process("run", PYTHONPATH=plugins, STREAMER_CONCURRENCY="1", **settings) as worker:
        worker.event("worker_started")
        running = await _enqueued(stores, "wait", seconds=1)
        await _progressed(stores, running)
        waiting = await _enqueued(stores, "wait", seconds=1)
        worker.signal(number)
        assert worker.ended() == 0
    assert (await stores.requests.get(running)).status is RequestStatus.COMPLETED
    assert (await stores.requests.get(waiting)).status is RequestStatus.PENDING


async def test_a_second_signal_does_not_wait(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """The handler is cancelled. Its request is PENDING again, and no attempt is used."""
    stores, settings = real
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        worker.event("worker_started")
        request_id = await _enqueued(stores, "wait", seconds=600)
        await _progressed(stores, request_id)
        worker.signal(signal.SIGTERM)
        worker.event("worker_draining", in_flight=1)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    request = await stores.requests.get(request_id)
    assert (request.status, request.retry_count) == (RequestStatus.PENDING, 0)
    assert request.worker_id is None


async def test_the_drain_timeout_cancels_handlers(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """After it the handler is cancelled and its request is released."""
    stores, settings = real
    with Process("run", PYTHONPATH=plugins, STREAMER_DRAIN_TIMEOUT="200ms", **settings) as worker:
        worker.event("worker_started")
        request_id = await _enqueued(stores, "wait", seconds=600)
        await _progressed(stores, request_id)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert (await stores.requests.get(request_id)).status is RequestStatus.PENDING


async def test_a_handler_that_exits_fails_alone(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """The worker continues with the next request."""
    stores, settings = real
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        left = await _ended(stores, await _enqueued(stores, "leave"))
        assert (left.status, left.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
        after = await _ended(stores, await _enqueued(stores, "count_words", text="still here"))
        assert after.result == {"data": 2}
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


async def test_stale_connections_are_deleted(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """The reaper deletes a stale connection, and keeps one that has pinged."""
    stores, settings = real
    now = datetime.now(UTC)
    for name, ping in (("silent", now - timedelta(hours=3)), ("fresh", now)):
        await stores.connections.save(connection(name, connected_at=ping, last_ping=ping))
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        worker.event("connections_reaped", found=1, deleted=1)
    with pytest.raises(NotFound):
        await stores.connections.get("silent")
    await stores.connections.get("fresh")


async def test_a_signal_while_idle_ends_it_at_once(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """It ends long before the drain timeout, because no handler runs."""
    _, settings = real
    with Process("run", PYTHONPATH=plugins, STREAMER_DRAIN_TIMEOUT="1h", **settings) as worker:
        worker.event("worker_started")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        worker.event("worker_draining", in_flight=0)


async def test_a_handler_may_signal_its_own_worker(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """SIGTERM from a handler drains the worker: that handler finishes, and the exit code is 0."""
    stores, settings = real
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        worker.event("worker_started")
        request_id = await _enqueued(stores, "signal_itself")
        assert worker.ended() == 0
    assert (await stores.requests.get(request_id)).status is RequestStatus.COMPLETED


async def test_a_handler_that_interrupts_fails_alone(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """KeyboardInterrupt from a handler is that handler's error, and does not stop the worker."""
    stores, settings = real
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        ended = await _ended(stores, await _enqueued(stores, "interrupt"))
        assert (ended.status, ended.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
        after = await _ended(stores, await _enqueued(stores, "count_words", text="still here"))
        assert after.result == {"data": 2}
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
