"""What a thousand who wait cost a handler, and each other."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from integration.gateway import LONG_AGO, Server, complete, connect, pushing, subscribe
from processes import PATIENCE
from streamer_worker.push.messages import ProgressMessage
from unit.worker.harness import Recorder

if TYPE_CHECKING:
    from streamer_store import Stores
    from streamer_worker.push.push_thread import Push

pytestmark = [pytest.mark.anyio, pytest.mark.local]


def progress(request_id: str, number: int) -> ProgressMessage:
    return ProgressMessage(
        request_id=request_id,
        connection_id=None,
        at=LONG_AGO,
        fraction=number / 1000,
        message=f"step {number}",
        details=None,
    )


async def _handler(push: Push, request_id: str) -> float:
    """Stand in for a handler of a hundred steps that tells of each; return its seconds."""
    began = time.monotonic()
    for number in range(100):
        push(progress(request_id, number))
        await anyio.sleep(0.03)
    return time.monotonic() - began


async def test_a_thousand_who_wait_slow_nobody(
    real: tuple[Stores, dict[str, str]], local_url: str, server: Server
) -> None:
    """100 are gone, 50 slow: the others have the end within 5 s, and the handler's own steps
    take at most 5 % longer than when nobody waits.
    """
    stores, settings = real
    kinds = ["gone"] * 100 + ["slow"] * 50 + ["ok"] * 850
    ids = [f"{kind}-{number}" for number, kind in enumerate(kinds)]
    random.Random(7).shuffle(ids)
    await connect(stores, server, *ids)
    await subscribe(stores, "r1", *ids)
    recorder = Recorder()
    alone, watched = [], []
    async with pushing(local_url, settings["STREAMER_TABLE_PREFIX"], server, recorder) as push:
        for _ in range(5):
            alone.append(await _handler(push, "nobody"))
            watched.append(await _handler(push, "r1"))
        push(complete("r1", None))
        offered = time.time()
        expected = {each for each in ids if each.startswith("ok-")}
        with anyio.fail_after(PATIENCE):
            while True:
                told = {
                    each["connection_id"]: each["at"]
                    for each in server.received()
                    if each["status"] == 200 and each["body"]["type"] == "complete"
                }
                if set(told) >= expected:
                    break
                await anyio.sleep(0.2)
    took = max(told[each] for each in expected) - offered
    ratio = statistics.median(watched) / statistics.median(alone)
    print(  # noqa: T201
        f"850 of 1,000 were told within {took:.2f} s;"
        f" the handler took {ratio:.3f} of its time ({alone} alone, {watched} watched)"
    )
    assert took < 5
    assert ratio < 1.05
