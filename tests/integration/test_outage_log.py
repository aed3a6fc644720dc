"""What real workers log while their table does not answer."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from integration.fast import FAST, LEASE
from integration.fast import ended as ended_of
from integration.gateway import Server, connect
from integration.proxy import (
    Fault,
    Proxy,
    answering,
    passing,
    stalling,
)
from plugins import plugin
from processes import PATIENCE, Process
from streamer_store import AsyncRequest, Candidate, RequestStatus, Stores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.local]

# All of them write while the table does not answer: outcomes, progress or checkpoints.
PLUGIN: Final = """
    import anyio
    from streamer_worker import handler

    @handler("ends")
    async def ends(payload, ctx):
        await anyio.sleep(payload["seconds"])

    @handler("reports")
    async def reports(payload, ctx):
        for step in range(20):
            await ctx.progress(step / 20, "on the way")
            await anyio.sleep(payload["seconds"] / 20)

    @handler("saves")
    async def saves(payload, ctx):
        for step in range(5):
            await ctx.checkpoint(step)
            await anyio.sleep(payload["seconds"] / 5)
"""
ACTIONS: Final = ("ends", "reports", "saves")
FAULTS: Final[dict[str, Fault]] = {
    "stalls": stalling,
    "throttles": answering(400, "ProvisionedThroughputExceededException"),
    "refuses expired credentials": answering(400, "ExpiredTokenException"),
}
# What each request logs when all is well.
ROUTINE: Final = {"request_finished"}
MINUTE: Final = 60.0


@pytest.fixture
def start(
    real: tuple[Stores, dict[str, str]],
    proxy: Proxy,
    server: Server,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Callable[..., Process]:
    """Yield a function that starts a worker behind the proxy."""
    entries = [f"{action} = outage:{action}" for action in ACTIONS]
    plugins = str(plugin(tmp_path, "outage", PLUGIN, *entries))

    def begin(**settings: str) -> Process:
        alone = {"STREAMER_ENDPOINT_URL": proxy.url, "STREAMER_NOTIFIER_HOSTS": server.host}
        worker = Process("run", PYTHONPATH=plugins, **(real[1] | alone | settings))
        request.addfinalizer(lambda: worker.__exit__(None, None, None))
        return worker

    return begin


async def _enqueue(stores: Stores, seconds: float, count: int = 4) -> list[AsyncRequest]:
    """Enqueue requests of every action, and return them."""
    requests = [
        AsyncRequest(action=action, payload={"seconds": seconds}, connection_id="ok-own")
        for action in ACTIONS
        for _ in range(count)
    ]
    return list((await stores.requests.enqueue_many(requests)).records)


async def _processing(stores: Stores) -> list[Candidate]:
    page = await stores.requests.entries(RequestStatus.PROCESSING, limit=100)
    return list(page.candidates)


async def _live_through(
    stores: Stores,
    workers: list[Process],
    *,
    begin: Callable[[], None],
    end: Callable[[], None],
    seconds: float,
) -> list[list[dict[str, Any]]]:
    """Let workers with running and waiting requests live through an outage.

    Return the lines of each worker since its begin, without those of requests that have ended.
    """
    for worker in workers:
        worker.event("worker_started")
    running = await _enqueue(stores, seconds / 2)
    with anyio.fail_after(PATIENCE):
        while len(await _processing(stores)) < len(running):  # noqa: ASYNC110  nothing announces it
            await anyio.sleep(0.05)
    before = [len(worker.lines) for worker in workers]
    begin()
    began = time.monotonic()
    waiting = await _enqueue(stores, 0.1)
    await anyio.sleep(began + seconds - time.monotonic())
    end()
    ended = await ended_of(
        stores, *(request.request_id for request in running + waiting), within=PATIENCE + seconds
    )
    assert {request.status for request in ended} == {RequestStatus.COMPLETED}
    for worker in workers:
        worker.event("table_available")
    return [
        [line for line in map(json.loads, worker.lines[lines:]) if line["event"] not in ROUTINE]
        for worker, lines in zip(workers, before, strict=True)
    ]


async def test_an_outage_of_a_minute_is_four_lines_at_most(
    real: tuple[Stores, dict[str, str]], proxy: Proxy, server: Server, start: Callable[..., Process]
) -> None:
    """The endpoint refuses connections, while handlers end, report, save and push."""
    stores, _ = real
    await connect(stores, server, "ok-own")
    # Each has half of the requests that run, and so outcomes that wait.
    workers = [start(STREAMER_CONCURRENCY="6") for _ in range(2)]
    logs = await _live_through(
        stores, workers, begin=proxy.refuse, end=proxy.listen, seconds=MINUTE
    )
    for lines in logs:
        assert 2 <= len(lines) <= 4
        _check(lines, seconds=MINUTE)
        assert lines[-1]["outcomes"] >= 1
        assert lines[-1]["longest_wait"] >= MINUTE / 6  # handlers end after half a minute


@pytest.mark.parametrize("name", FAULTS)
async def test_each_kind_of_outage_is_a_line_at_its_start_and_one_at_its_end(
    name: str,
    real: tuple[Stores, dict[str, str]],
    proxy: Proxy,
    server: Server,
    start: Callable[..., Process],
) -> None:
    """Lines of the AWS client are not added, nor tracebacks."""
    stores, _ = real
    await connect(stores, server, "ok-own")
    worker = start(**FAST)

    def begin() -> None:
        proxy.fault = FAULTS[name]

    def end() -> None:
        proxy.fault = passing

    (lines,) = await _live_through(stores, [worker], begin=begin, end=end, seconds=2 * LEASE)
    assert len(lines) == 2
    _check(lines, seconds=2 * LEASE)


def _check(lines: list[dict[str, Any]], *, seconds: float) -> None:
    """Check the lines of an outage in which outcomes had to wait."""
    *lasting, end = lines
    assert {line["event"] for line in lasting} == {"table_unavailable"}
    assert end["event"] == "table_available"
    assert {line["error_type"] for line in lasting} <= {"StoreUnavailable", "TimeoutError"}
    assert not any("exception" in line or "request_id" in line for line in lines)
    assert end["seconds"] >= seconds / 2


async def test_denied_calls_are_lines_of_their_own(
    real: tuple[Stores, dict[str, str]], proxy: Proxy, start: Callable[..., Process]
) -> None:
    """An operator must act. There is one line for all calls, and one for outcomes that wait."""
    stores, _ = real
    worker = start(**FAST)
    worker.event("worker_started")
    before = len(worker.lines)
    await stores.requests.enqueue(AsyncRequest(action="ends", payload={"seconds": LEASE}))
    with anyio.fail_after(PATIENCE):
        while not await _processing(stores):  # noqa: ASYNC110  nothing announces it
            await anyio.sleep(0.05)
    proxy.fault = answering(400, "AccessDeniedException")
    worker.event("settle_delayed")
    await anyio.sleep(LEASE)
    proxy.fault = passing
    worker.event("settles_resumed")
    lines = [json.loads(line) for line in worker.lines[before:]]
    names = [line["event"] for line in lines if line["event"] not in ROUTINE]
    assert names == ["calls_refused", "settle_delayed", "settles_resumed"]
    assert lines[0]["error_type"] == "AccessDenied"
