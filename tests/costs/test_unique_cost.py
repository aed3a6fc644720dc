"""What requests with a unique key cost, in write units, on DynamoDB Local.

`pytest -s tests/costs/test_unique_cost.py` prints the figures of docs/scheduling.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from capacity import consumed, split
from integration.fast import ended
from plugins import plugin
from processes import Process
from streamer_store import (
    AsyncRequest,
    CallEnded,
    Enqueued,
    EventType,
    OnConflict,
    Stores,
    TryFailed,
    open_stores,
    unique_id,
)
from support import unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]
CODE = """
    from streamer_worker import handler

    @handler("echo")
    async def echo(payload, ctx):
        return payload
"""
REQUESTS = 50


class Meter:
    """Adds up the units that a producer's calls consume."""

    units = 0.0

    def record(self, event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded):
            self.units += sum(capacity.units for capacity in event.capacity)

    async def of(self, work: Callable[[], Awaitable[object]]) -> float:
        before = self.units
        await work()
        return self.units - before


def request(number: int) -> AsyncRequest:
    return AsyncRequest(
        action="echo", unique_key=f"key-{number}", connection_id="c1", payload={"n": number}
    )


async def test_the_life_of_a_request_costs_nothing_more(local_url: str, tmp_path: Path) -> None:
    """It takes 9 write units, as without a key."""
    path = plugin(tmp_path, "cost", CODE, "echo = cost:echo")
    prefix = unique_prefix()
    settings = {
        "STREAMER_ENDPOINT_URL": local_url,
        "STREAMER_TABLE_PREFIX": prefix,
        "STREAMER_HTTP_HOST": "127.0.0.1",
        "STREAMER_HTTP_PORT": "0",
        "STREAMER_PUSH": "off",
        "STREAMER_BATCH_WRITES": "false",
        "PYTHONPATH": str(path),
    }
    meter = Meter()
    async with open_stores(
        endpoint_url=local_url, prefix=prefix, observe=meter.record, batch_writes=False
    ) as stores:
        await stores.create_tables()
        with Process("run", **settings) as worker:
            url = str(worker.event("worker_started")["metrics_url"])
            await anyio.sleep(2)
            before = consumed(url)
            put = await meter.of(
                lambda: stores.requests.enqueue_many([request(n) for n in range(REQUESTS)])
            )
            await ended(stores, *(unique_id("echo", f"key-{n}") for n in range(REQUESTS)))
            _, written = split(consumed(url) - before)
    life = (put + written) / REQUESTS
    print(f"\nwrite units of a request with a unique key: {life:.1f}")  # noqa: T201
    assert 8.9 <= life <= 9.5  # the worker's own heartbeats are in it


async def test_what_a_second_one_costs(local_url: str) -> None:
    """Where it exists, nothing but the put that is refused. That takes a unit for each KB on AWS,
    and DynamoDB Local reports none.
    """
    meter = Meter()
    async with open_stores(
        endpoint_url=local_url, prefix=unique_prefix(), observe=meter.record, batch_writes=False
    ) as stores:
        await stores.create_tables()

        async def enqueue(on_conflict: OnConflict, expected: Enqueued) -> None:
            stored = await stores.requests.enqueue(request(1), on_conflict=on_conflict)
            assert stored.enqueued is expected

        first = await meter.of(lambda: enqueue("keep", Enqueued.CREATED))
        exists = await meter.of(lambda: enqueue("keep", Enqueued.EXISTS))
        replaced = await meter.of(lambda: enqueue("replace_waiting", Enqueued.REPLACED))
        await stores.requests.cancel(unique_id("echo", "key-1"))
        again = await meter.of(lambda: enqueue("keep", Enqueued.CREATED))
        await _subscribe(stores)
        with_one = await meter.of(lambda: enqueue("keep", Enqueued.CREATED))
    print(  # noqa: T201
        f"\nunits: the first {first}, exists {exists}, replaced {replaced}, after another's end"
        f" {again}, and {with_one} with a subscription"
    )
    assert (first, exists) == (3, 0)
    assert replaced == 2
    assert again == 5
    assert with_one <= 33  # DynamoDB Local reports twice what AWS charges for a transaction


async def _subscribe(stores: Stores) -> None:
    request_id = unique_id("echo", "key-1")
    await stores.requests.cancel(request_id)
    await stores.subscriptions.subscribe("c1", request_id, [EventType.COMPLETE])
