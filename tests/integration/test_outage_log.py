"""What real workers log while their table does not answer."""

from __future__ import annotations

import json
import time
from collections import Counter
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
    losing_answers,
    passing,
    resetting,
    stalling,
)
from plugins import plugin
from processes import PATIENCE, Process
from streamer_store import AsyncRequest, RequestStatus, Stores

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
    "resets": resetting,
    "stalls": stalling,
    "answers 500": answering(500, "InternalServerError"),
    "throttles": answering(400, "ProvisionedThroughputExceededException"),
    "refuses expired credentials": answering(400, "ExpiredTokenException"),
    "loses all answers": losing_answers,
}
# What each request logs when all is well.
ROUTINE: Final = {"request_finished"}


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
        while len((await stores.requests.entries(RequestStatus.PROCESSING, limit=100)).candidates) < len(running):
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
        pass
    for worker, lines in zip(workers, before, strict=True):
        print(worker.pid, *worker.lines[lines:], sep="\n")  # noqa: T201
    return [
        [
            line
            for line in map(json.loads, worker.lines[lines:])
            if line["event"] not in ROUTINE
        ]
        for worker, lines in zip(workers, before, strict=True)
    ]


async def test_an_outage_of_a_minute_is_four_lines_at_most(
    real: tuple[Stores, dict[str, str]], proxy: Proxy, server: Server, start: Callable[..., Process]
) -> None:
    stores, _ = real
    await connect(stores, server, "ok-own")
    workers = [start(), start()]
    logs = await _live_through(
        stores, workers, begin=proxy.refuse, end=proxy.listen, seconds=60
    )
    for lines in logs:
        print(Counter(line["event"] for line in lines))
