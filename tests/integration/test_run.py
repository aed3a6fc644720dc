"""`streamer-worker run` as a real process, with the example plugin, on DynamoDB Local."""

from __future__ import annotations

import shutil
import signal
import textwrap
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import pytest

from processes import ROOT, Process, command, install, page
from streamer_store import AsyncRequest, Connection, NotFound, RequestStatus, open_stores
from streamer_store.transitions import TERMINAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from streamer_store import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]

SLOW_PLUGIN = """
    import sys
    import anyio
    from streamer_worker import handler

    @handler("wait")
    async def wait(payload, ctx):
        await ctx.progress(0.1, "waiting")
        await anyio.sleep(payload["seconds"])
        return {"waited": payload["seconds"]}

    @handler("leave")
    async def leave(payload, ctx):
        sys.exit(3)
"""


def _plugin(folder: Path, name: str, code: str, *entries: str) -> Path:
    """Write and install a package with these lines of entry points."""
    source = folder / f"{name}-source"
    (source / name).mkdir(parents=True)
    (source / name / "__init__.py").write_text(textwrap.dedent(code))
    lines = "\n".join(entries)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
        f'[project.entry-points."streamer_worker.handlers"]\n{lines}\n'
    )
    return install(source, folder / name)


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install the example plugin, and one with slow handlers; give their PYTHONPATH."""
    folder = tmp_path_factory.mktemp("plugins")
    source = shutil.copytree(ROOT / "examples" / "reports-plugin", folder / "example")
    example = install(source, folder / "installed")
    slow = _plugin(folder, "slow", SLOW_PLUGIN, 'wait = "slow:wait"', 'leave = "slow:leave"')
    return f"{example}:{slow}"


@pytest.fixture
async def real(local_url: str) -> AsyncIterator[tuple[Stores, dict[str, str]]]:
    """Give stores on real time, and the settings of a worker on the same tables."""
    prefix = f"run{datetime.now(UTC):%H%M%S%f}_"
    async with open_stores(endpoint_url=local_url, prefix=prefix) as stores:
        await stores.create_tables()
        yield (
            stores,
            {
                "STREAMER_ENDPOINT_URL": local_url,
                "STREAMER_TABLE_PREFIX": prefix,
                "STREAMER_HTTP_PORT": "0",
                "STREAMER_HTTP_HOST": "127.0.0.1",
            },
        )


async def _until(
    stores: Stores, request_id: str, holds: Callable[[AsyncRequest], bool]
) -> AsyncRequest:
    """Look at a request until something holds of it."""
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
    """Found through its entry points alone; results, progress and metrics are there."""
    stores, settings = real
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        started = worker.event("worker_started")
        assert {"count_words", "generate_report"} <= set(started["actions"])
        report = await _ended(stores, await _enqueued(stores, "generate_report", rows=1000))
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
        assert f'{name}{{action="generate_report",outcome="completed"}} 1.0' in metrics
        assert f'{name}{{action="other",outcome="failed"}} 1.0' in metrics
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        worker.event("worker_stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_handlers_finish(
    real: tuple[Stores, dict[str, str]], plugins: str, number: signal.Signals
) -> None:
    """What runs is completed, what waits stays waiting, and the exit code is 0."""
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
    """The handler is cancelled; its request is PENDING again and no attempt is used."""
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


async def test_the_drain_time_ends(real: tuple[Stores, dict[str, str]], plugins: str) -> None:
    """Then the handler is cancelled and its request released."""
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
    """The worker goes on with the next request."""
    stores, settings = real
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        left = await _ended(stores, await _enqueued(stores, "leave"))
        assert (left.status, left.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
        after = await _ended(stores, await _enqueued(stores, "count_words", text="still here"))
        assert after.result == {"data": 2}
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


async def test_stale_connections_go(real: tuple[Stores, dict[str, str]], plugins: str) -> None:
    """The reaper runs in the process: a silent connection goes, a fresh one stays."""
    stores, settings = real
    now = datetime.now(UTC)
    for name, ping in (("silent", now - timedelta(hours=3)), ("fresh", now)):
        await stores.connections.save(
            Connection(
                connection_id=name,
                user_id="u",
                tenant_id="t",
                endpoint="wss://example.com",
                connected_at=ping,
                last_ping=ping,
            )
        )
    with Process("run", PYTHONPATH=plugins, **settings) as worker:
        worker.event("connections_reaped", found=1, deleted=1)
    with pytest.raises(NotFound):
        await stores.connections.get("silent")
    await stores.connections.get("fresh")


def _refused(expected: str, settings: dict[str, str], *, code: int = 2) -> None:
    ended = command("run", **settings)
    assert ended.returncode == code
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_worker_without_handlers_does_not_start(
    real: tuple[Stores, dict[str, str]],
) -> None:
    """It says where handlers come from."""
    _refused("streamer_worker.handlers", real[1])


async def test_broken_plugins_stop_the_start(
    real: tuple[Stores, dict[str, str]], plugins: str, tmp_path: Path
) -> None:
    """An import that fails and an action claimed twice: each named, all at once."""
    broken = _plugin(tmp_path, "broken", "import nothing_of_that_name", 'x = "broken:x"')
    twice = _plugin(tmp_path, "twice", SLOW_PLUGIN, 'wait = "twice:wait"')
    ended = command("run", PYTHONPATH=f"{plugins}:{broken}:{twice}", **real[1])
    assert ended.returncode == 2
    assert "broken (x = broken:x)" in ended.stderr
    assert "nothing_of_that_name" in ended.stderr
    assert "'wait' is claimed twice: by slow (wait = slow:wait)" in ended.stderr
    assert "twice (wait = twice:wait)" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_what_keeps_a_worker_from_starting_is_one_message(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """Tables, settings, port, network, profile: an exit code, a clear text, no traceback."""
    settings = real[1] | {"PYTHONPATH": plugins}
    _refused("tables create", settings | {"STREAMER_TABLE_PREFIX": "nothing_"})
    _refused("nearest is STREAMER_CONCURRENCY", settings | {"STREAMER_CONCURENCY": "3"})
    port = settings["STREAMER_ENDPOINT_URL"].rpartition(":")[2]
    _refused("choose another", settings | {"STREAMER_HTTP_PORT": port})
    nowhere = {"STREAMER_ENDPOINT_URL": "http://127.0.0.1:1"}
    _refused("DynamoDB did not answer", settings | nowhere, code=1)
    _refused("no_such_profile", settings | {"AWS_PROFILE": "no_such_profile"}, code=1)
