"""The cost of a message that nobody wants, and of a thousand recipients.

`pytest -s tests/costs/test_push_cost.py` prints the figures.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import anyio.to_process
import pytest

from integration.gateway import LONG_AGO, Server, complete, connect, pushing, subscribe
from processes import PATIENCE
from streamer_store import CallEnded, TryFailed
from streamer_worker.events import PushTried
from streamer_worker.push.messages import ProgressMessage
from streamer_worker.push.subscription_check import EXIST_FOR, SCAN_EVERY
from unit.worker.harness import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

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


async def _run_handler(report: Callable[[int], None] = lambda _number: None) -> float:
    """Act as a handler that reports a hundred steps, and return its duration in seconds."""
    began = time.monotonic()
    for number in range(100):
        report(number)
        await anyio.sleep(0.03)
    return time.monotonic() - began


def _run_elsewhere() -> float:
    return anyio.run(_run_handler)


async def _slowdown(push: Push, request_id: str) -> float:
    """Return how much longer a handler takes here than in another process at the same time.

    So what slows down the whole machine counts for both.
    """
    elsewhere = 0.0

    async def run_elsewhere() -> None:
        nonlocal elsewhere
        elsewhere = await anyio.to_process.run_sync(_run_elsewhere)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_elsewhere)
        here = await _run_handler(lambda number: push(progress(request_id, number)))
    return here / elsewhere


async def test_a_thousand_recipients_slow_neither_handler_nor_each_other(
    real: tuple[Stores, dict[str, str]], local_url: str, server: Server
) -> None:
    """100 connections are gone and 50 are slow. The others get the outcome within 5 s, and the
    handler takes at most 5 % longer than without recipients.
    """
    stores, settings = real
    kinds = ["gone"] * 100 + ["slow"] * 50 + ["ok"] * 850
    ids = [f"{kind}-{number}" for number, kind in enumerate(kinds)]
    random.Random(7).shuffle(ids)
    await connect(stores, server, *ids)
    await subscribe(stores, "r1", *ids)
    recorder = Recorder()
    async with pushing(local_url, settings["STREAMER_TABLE_PREFIX"], server, recorder) as push:
        # In this order, because what was pushed is still on its way when the handler ends.
        await _slowdown(push, "nobody")  # starts the other process
        alone = [await _slowdown(push, "nobody") for _ in range(5)]
        watched = [await _slowdown(push, "r1") for _ in range(5)]
        push(complete("r1", None))
        offered = time.time()
        expected = {connection_id for connection_id in ids if connection_id.startswith("ok-")}
        with anyio.fail_after(PATIENCE):
            while True:
                received_at = {
                    post["connection_id"]: post["at"]
                    for post in server.received()
                    if post["status"] == 200 and post["body"]["type"] == "complete"
                }
                if set(received_at) >= expected:
                    break
                await anyio.sleep(0.2)
    took = max(received_at[connection_id] for connection_id in expected) - offered
    ratio = statistics.median(watched) / statistics.median(alone)
    print(  # noqa: T201
        f"850 of 1,000 connections got the outcome within {took:.2f} s,"
        f" and the handler took {ratio:.3f} of its time ({alone} alone, {watched} watched)"
    )
    assert took < 5
    assert ratio < 1.05


async def test_messages_to_one_connection_read_it_once_a_second(
    real: tuple[Stores, dict[str, str]], local_url: str, server: Server
) -> None:
    """A thousand at once. Its outbox keeps a hundred of them, after the connection was read."""
    stores, settings = real
    await connect(stores, server, "c1")
    calls: Counter[str] = Counter()

    def count(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded):
            calls[event.operation] += 1

    began = time.monotonic()
    prefix = settings["STREAMER_TABLE_PREFIX"]
    recorder = Recorder()
    async with pushing(local_url, prefix, server, recorder, observe=count) as push:
        for number in range(1000):
            push(complete(f"r{number}", "c1"))
        with anyio.fail_after(PATIENCE):
            while len(recorder.of(PushTried)) < 1000:  # noqa: ASYNC110  on another thread
                await anyio.sleep(0.1)
    assert len(server.types("c1")) >= 100
    seconds = time.monotonic() - began
    print(f"1000 messages in {seconds:.1f} s: {dict(calls)}")  # noqa: T201
    assert 1 <= calls["GetItem"] + calls["BatchGetItem"] <= 1 + seconds


@pytest.mark.parametrize("subscribed", [False, True])
async def test_a_message_that_nobody_wants_costs_as_documented(
    real: tuple[Stores, dict[str, str]], local_url: str, server: Server, *, subscribed: bool
) -> None:
    """While the table is empty, messages share 20 Scans a second. Otherwise each needs a Query."""
    stores, settings = real
    if subscribed:
        await stores.subscriptions.subscribe("another", "another")
    calls: Counter[str] = Counter()

    def count(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded):
            calls[event.operation] += 1

    prefix = settings["STREAMER_TABLE_PREFIX"]
    messages = 500
    began = time.monotonic()
    async with pushing(local_url, prefix, server, Recorder(), observe=count) as push:
        for number in range(messages):
            push(complete(f"r{number}", None))
            await anyio.sleep(0.002)
    seconds = time.monotonic() - began
    print(f"{messages} messages in {seconds:.1f} s: {dict(calls)}")  # noqa: T201
    if subscribed:
        assert calls["Query"] == messages
        assert 1 <= calls["Scan"] <= 1 + seconds / EXIST_FOR
    else:
        assert calls["Query"] == 0
        assert 1 <= calls["Scan"] <= 2 + seconds / SCAN_EVERY
