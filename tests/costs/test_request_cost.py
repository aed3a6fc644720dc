"""The read and write units that DynamoDB charges for a request, and for an idle worker.

`pytest -s tests/costs/test_request_cost.py` prints the figures of docs/operations.md.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from capacity import consumed, split
from integration.fast import ended
from plugins import plugin
from processes import Process
from streamer_store import AsyncRequest, CallEnded, TryFailed, open_stores
from support import unique_prefix

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.local]

COUNT = 200
IDLE_SECONDS = 20
CODE = """
    from streamer_worker import handler

    @handler("echo")
    async def echo(payload, ctx):
        return payload

    @handler("report")
    async def report(payload, ctx):
        import anyio
        await ctx.progress(0.5, "half")
        await anyio.sleep(0.5)
"""


async def test_a_request_and_an_idle_worker_cost_as_documented(
    local_url: str, tmp_path: Path
) -> None:
    """A small request costs nine write units: 3 to enqueue it, 3 to claim it, and 3 to settle it.
    Every write of progress costs one more.
    """
    path = plugin(tmp_path, "cost", CODE, "echo = cost:echo", "report = cost:report")
    prefix = unique_prefix()
    put: list[float] = []

    def record(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded) and event.operation == "PutItem":
            put.append(sum(capacity.units for capacity in event.capacity))

    settings = {
        "STREAMER_ENDPOINT_URL": local_url,
        "STREAMER_TABLE_PREFIX": prefix,
        "STREAMER_HTTP_HOST": "127.0.0.1",
        "STREAMER_HTTP_PORT": "0",
        "STREAMER_PUSH": "off",
        # DynamoDB Local reports no capacity for batches. A write costs the same in a batch.
        "STREAMER_BATCH_WRITES": "false",
        "PYTHONPATH": str(path),
    }
    async with open_stores(
        endpoint_url=local_url, prefix=prefix, observe=record, batch_writes=False
    ) as stores:
        await stores.create_tables()
        with Process("run", **settings) as worker:
            url = str(worker.event("worker_started")["metrics_url"])
            costs: dict[str, list[float]] = {}
            for action in ("echo", "report"):
                before = consumed(url)
                stored = (
                    await stores.requests.enqueue_many(
                        AsyncRequest(action=action, payload={"n": n}, connection_id="c1")
                        for n in range(COUNT)
                    )
                ).records
                await ended(stores, *(request.request_id for request in stored))
                costs[action] = [units / COUNT for units in split(consumed(url) - before)]
            enqueued = sum(put) / len(put)
            before, began = consumed(url), time.monotonic()
            await anyio.sleep(IDLE_SECONDS)
            seconds = time.monotonic() - began
            idle = consumed(url) - before
    read, written = (units / seconds for units in split(idle))
    (echo_read, echo), (_, report) = costs["echo"], costs["report"]
    print(  # noqa: T201
        f"\nwrite units: {enqueued:.1f} to enqueue, {echo:.1f} to claim and settle, {report:.1f}"
        f" with one write of progress; read units: {echo_read:.1f}"
        f"\nidle, per second: {written:.2f} write units, {read:.2f} read units, and the cost of"
        " empty queries, which DynamoDB Local does not report"
    )
    assert enqueued == pytest.approx(3, abs=0.1)
    assert echo == pytest.approx(6, abs=0.2)
    assert report - echo == pytest.approx(1, abs=0.3)
    assert echo_read < 2
    assert written == pytest.approx(0.25, abs=0.1)
    assert read < 2
