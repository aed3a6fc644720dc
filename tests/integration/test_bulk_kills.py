"""Bulk commands that are killed at any call, and run again, end as if they had not been."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import fresh_stores
from integration.proxy import Proxy, passing, proxy_to
from processes import Process, command
from streamer_store import AsyncRequest, RequestStatus, Stores, codec
from streamer_store.engine import Scan, paginate
from streamer_store.schema import REQUESTS
from support import ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.local]
COUNT = 300
IDS = [f"r{number:03}" for number in range(COUNT)]
READS = {"BatchGetItem", "GetItem", "Query", "Scan"}
# What every write draws or takes from the clock.
DRAWN = {"Version", "CreatedAt", "TTL", "ProcessingEnded", "DueAt"}


@pytest.fixture
async def stores(local_url: str, clock: ManualClock, rng: random.Random) -> AsyncIterator[Stores]:
    async with fresh_stores(local_url, clock=clock, rng=rng, undecodable=[]) as opened:
        yield opened


@pytest.fixture
def settings(local_url: str, stores: Stores) -> dict[str, str]:
    prefix = stores.engine.table_name(REQUESTS).removesuffix(REQUESTS.name)
    return {"STREAMER_ENDPOINT_URL": local_url, "STREAMER_TABLE_PREFIX": prefix}


async def state(stores: Stores) -> dict[str, dict[str, Any]]:
    """Return all items by id, without what is different each time."""
    scan = Scan(table=REQUESTS)
    pages = [page async for page in paginate(stores.engine.scan, scan)]
    return {
        codec.raw_text(item, "RequestID"): {
            name: value for name, value in item.items() if name not in DRAWN
        }
        for page in pages
        for item in page.items
    }


async def enqueue(stores: Stores) -> None:
    await stores.requests.delete_many(IDS)


async def fail(stores: Stores) -> None:
    await enqueue(stores)
    await stores.requests.enqueue_many(AsyncRequest(action="a", request_id=key) for key in IDS)
    await stores.requests.cancel_many(IDS)


async def wait(stores: Stores) -> None:
    await enqueue(stores)
    await stores.requests.enqueue_many(AsyncRequest(action="a", request_id=key) for key in IDS)


Case = tuple[Callable[[Stores], Awaitable[None]], int, tuple[str, ...]]
CASES: dict[str, Case] = {
    "enqueue": (enqueue, 10, ("enqueue", "--file", "FILE")),
    "redrive": (fail, 10, ("redrive", "--action", "a", "--cancelled")),
    "cancel": (wait, 4, ("cancel", "--action", "a")),
    "delete": (fail, 4, ("delete", "--status", "CANCELLED")),
}


def kill_at(
    proxy: Proxy, number: int, victims: list[Process], *, answered: bool, writes: bool = False
) -> None:
    """Kill the victim at its nth call, before or after that took effect.

    `writes`: count only the calls that write.
    """
    calls = 0

    async def fault(request: Any, forward: Any) -> Any:
        nonlocal calls
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        calls += not writes or operation not in READS
        if calls != number:
            return await forward()
        if answered:
            await forward()
        victims[0].signal(signal.SIGKILL)
        return await passing(request, forward)

    proxy.fault = fault


@pytest.mark.parametrize("name", CASES)
async def test_a_command_that_was_killed_is_run_again(
    name: str, stores: Stores, settings: dict[str, str], tmp_path: Path
) -> None:
    """At any call, before or after it took effect. The second run exits with 0."""
    prepare, kills, arguments = CASES[name]
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(json.dumps({"action": "a", "request_id": key}) + "\n" for key in IDS))
    run = [*(str(file) if argument == "FILE" else argument for argument in arguments), "--yes"]
    await prepare(stores)
    assert command(*run, **settings).returncode == 0
    expected = await state(stores)
    rng = random.Random(f"kills of {name}")
    partial = []
    with proxy_to(settings["STREAMER_ENDPOINT_URL"]) as proxy:
        through = settings | {"STREAMER_ENDPOINT_URL": proxy.url}
        for place in range(kills):
            await prepare(stores)
            before = await state(stores)
            victims: list[Process] = []
            if place:
                kill_at(proxy, rng.randint(2, 12), victims, answered=rng.random() < 0.5)
            else:  # 12 calls write, six of them at a time
                kill_at(proxy, 3, victims, answered=True, writes=True)
            with Process(*run, **through) as process:
                victims.append(process)
                assert process.ended() == -signal.SIGKILL
            partial.append(await state(stores) not in (before, expected))
            proxy.fault = passing
            ended = command(*run, **through)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert await state(stores) == expected
    assert partial[0]
    found = await stores.requests.get_many(IDS)
    statuses = {request.status for request in found.values()}
    assert (
        statuses
        == {
            "enqueue": {RequestStatus.PENDING},
            "redrive": {RequestStatus.PENDING},
            "cancel": {RequestStatus.CANCELLED},
            "delete": set(),
        }[name]
    )
