"""How many lines a real worker logs for repeated events."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from aiohttp import web

from integration.fast import FAST, ended
from integration.proxy import Forward, Proxy, answering, passing
from processes import PATIENCE, Process
from streamer_store import AsyncRequest, RequestStatus, Stores
from streamer_store.engine import Put
from streamer_store.schema import WORKERS

pytestmark = [pytest.mark.anyio]
_UNAVAILABLE = answering(500, "InternalServerError")


def count(worker: Process, event: str) -> int:
    return sum(f'"event": "{event}"' in line for line in worker.lines)


async def _until_beat(stores: Stores, worker_id: str, beat: int) -> None:
    with anyio.fail_after(PATIENCE):
        while True:
            beats = {row.worker_id: row.beat for row in await stores.workers.list()}
            if beats.get(worker_id, 0) >= beat:
                return
            await anyio.sleep(0.1)


async def test_an_undecodable_worker_row_is_one_line(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """The row is read with every heartbeat, and logged once."""
    stores, settings = real
    odd: dict[str, Any] = {"WorkerID": {"S": "odd"}, "StartedAt": {"S": "yesterday"}}
    await stores.engine.put(Put(table=WORKERS, item=odd))
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        worker_id = worker.event("worker_started")["worker_id"]
        worker.event("item_undecodable", key="odd")
        await _until_beat(stores, worker_id, 6)
        assert count(worker, "item_undecodable") == 1


async def test_an_outage_of_writes_is_two_lines(
    real: tuple[Stores, dict[str, str]], plugins: str, proxy: Proxy
) -> None:
    """Polls and heartbeats succeed. The line at the end has the outcomes that waited."""
    stores, settings = real

    async def refuse_outcomes(request: web.Request, forward: Forward) -> web.StreamResponse:
        settles = '"COMPLETED"' in (await request.text())
        return await (_UNAVAILABLE(request, forward) if settles else forward())

    settings["STREAMER_ENDPOINT_URL"] = proxy.url
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        worker.event("worker_started")
        proxy.fault = refuse_outcomes
        requests = (
            await stores.requests.enqueue_many(
                AsyncRequest(action="wait", payload={"seconds": 0.1}) for _ in range(16)
            )
        ).records
        worker.event("table_unavailable")
        await anyio.sleep(3)
        proxy.fault = passing
        done = await ended(stores, *(request.request_id for request in requests))
        assert {request.status for request in done} == {RequestStatus.COMPLETED}
        end = worker.event("table_available")
        assert 1 <= end["outcomes"] <= 16
        assert end["seconds"] >= 2
        assert end["longest_wait"] >= 2
        assert count(worker, "table_unavailable") == count(worker, "table_available") == 1
        assert count(worker, "settle_delayed") == 0
