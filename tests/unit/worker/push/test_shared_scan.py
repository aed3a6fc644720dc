"""The Scan that messages share to know that nobody has subscribed."""

from __future__ import annotations

from typing import Final

import anyio
import pytest

from streamer_store import AccessDenied, StoreError, StoreUnavailable
from streamer_worker.events import StepFailed
from streamer_worker.push.subscription_check import DENIED_FOR, EXIST_FOR, SCAN_EVERY
from unit.worker.harness import World, virtual_time
from unit.worker.push.notifier_bench import Bench, opened

pytestmark = [pytest.mark.anyio, virtual_time]
_AWAY: Final = StoreUnavailable("away")
_DENIED: Final = AccessDenied("not authorized")


def reads(world: World) -> list[str]:
    """Return the reads since the last call."""
    found = [call for call in world.engine.calls if call in {"scan", "query", "get_many"}]
    world.engine.calls.clear()
    return found


async def complete_one(bench: Bench, own: str | None = None) -> list[str]:
    """Complete r1, and return the reads that its message needed."""
    reads(bench.world)
    bench.complete(own=own)
    await bench.settle()
    return reads(bench.world)


async def test_messages_that_wait_at_one_moment_share_a_scan(world: World) -> None:
    """Without subscriptions no message needs a Query, and the own connections are looked up."""
    async with opened(world) as bench:
        await bench.connect("c1")
        reads(world)
        for number in range(100):
            bench.complete(request_id=f"r{number}")
            bench.progress("one", request_id=f"p{number}")
        bench.complete(request_id="mine", own="c1")
        await bench.settle()
    assert reads(world) == ["scan", "get_many"]
    assert bench.gateway.types("c1") == ["complete"]


async def test_a_message_offered_during_a_scan_waits_for_the_next(world: World) -> None:
    """A Scan says nothing about subscriptions that were stored after it began.

    Proves PUSH-3.
    """
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        scan = world.engine.hold("scan", lands=True)
        bench.complete(request_id="early")
        bench.progress("early", request_id="r2")
        await scan.wait_reached()
        await bench.subscribe("c1", request_id="r1")
        await bench.subscribe("c2", request_id="r2")
        bench.complete(request_id="r1")
        bench.complete(request_id="r2")
        scan.let_go()
        await bench.settle()
    assert bench.gateway.types("c1") == ["complete"]
    assert bench.gateway.types("c2") == ["complete"]


async def test_a_message_offered_before_a_scan_begins_shares_it(world: World) -> None:
    """The message waits for the rate of Scans, and what was subscribed before it is found.

    Proves PUSH-3.
    """
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.complete(request_id="first")
        await bench.settle()
        bench.complete(request_id="second")
        await anyio.sleep(SCAN_EVERY / 2)
        await bench.subscribe("c1")
        bench.complete()
        await bench.settle()
    assert bench.gateway.types("c1") == ["complete"]


async def test_newer_messages_of_a_request_are_checked_again(world: World) -> None:
    """Its subscriptions may begin between its progress and its end, or between two of its ends."""
    async with opened(world) as bench:
        await bench.connect("own", "c1")
        bench.progress("one", own="own")
        await anyio.sleep(SCAN_EVERY)
        await bench.subscribe("c1")
        bench.complete(own="own")
        await bench.settle()
    assert bench.gateway.types("own") == ["progress", "complete"]
    assert bench.gateway.types("c1") == ["complete"]


async def test_an_empty_table_is_never_remembered(world: World) -> None:
    """The message right after a subscription is delivered."""
    async with opened(world) as bench:
        await bench.connect("c1")
        assert await complete_one(bench) == ["scan"]
        await bench.subscribe("c1")
        assert await complete_one(bench) == ["scan", "query", "get_many"]
    assert bench.gateway.types("c1") == ["complete"]


async def test_a_table_that_is_not_empty_is_remembered_for_a_while(world: World) -> None:
    """Until then each message needs a Query. The next one needs a Scan, too."""
    async with opened(world) as bench:
        await bench.subscribe("c1", request_id="another")
        assert await complete_one(bench) == ["scan", "query", "get_many"]
        await anyio.sleep(EXIST_FOR / 2)
        assert await complete_one(bench) == ["query", "get_many"]
        await world.stores.subscriptions.unsubscribe("c1", "another")
        await anyio.sleep(EXIST_FOR / 2)
        assert await complete_one(bench) == ["scan"]


@pytest.mark.parametrize(
    ("error", "pause"), [(_AWAY, EXIST_FOR), (_DENIED, DENIED_FOR), (ValueError("odd"), EXIST_FOR)]
)
async def test_a_query_decides_when_a_scan_fails(
    error: Exception, pause: float, world: World
) -> None:
    """The error is emitted once, and the next Scan follows after a pause."""
    async with opened(world) as bench:
        await bench.connect("c1", "own")
        await bench.subscribe("c1")
        world.engine.fail("scan", error, times=10**6)
        assert await complete_one(bench, own="own") == ["scan", "query", "get_many"]
        await anyio.sleep(pause - 1)
        assert await complete_one(bench) == ["query", "get_many"]
        assert [event.error for event in world.recorder.of(StepFailed)] == [error]
        await anyio.sleep(1)
        assert await complete_one(bench) == ["scan", "query", "get_many"]
    assert bench.gateway.types("c1") == ["complete"] * 3
    assert bench.gateway.types("own") == ["complete"]


async def test_scans_have_a_limited_rate(world: World) -> None:
    """The first is sent at once. A table has one partition that all Scans read."""
    async with opened(world) as bench:
        bench.complete(request_id="first")
        with anyio.fail_after(SCAN_EVERY / 2):
            await bench.settle()
        for number in range(100):
            bench.complete(request_id=f"r{number}")
            await anyio.sleep(0.01)
        await bench.settle()
    assert 1 / SCAN_EVERY <= reads(world).count("scan") <= 1 / SCAN_EVERY + 2


async def test_progress_that_nobody_wants_is_cached(world: World) -> None:
    """50 reports in five seconds cause two Scans, and a new subscriber gets the later ones."""
    async with opened(world) as bench:
        await bench.connect("c1")
        for number in range(50):
            bench.progress(str(number))
            await anyio.sleep(0.1)
        assert reads(world).count("scan") <= 2
        await bench.subscribe("c1")
        await anyio.sleep(6)
        bench.progress("late")
        await bench.settle()
    assert bench.gateway.messages("c1") == ["late"]


@pytest.mark.parametrize("error", [None, _AWAY])
async def test_a_flush_waits_for_the_scan(world: World, error: StoreError | None) -> None:
    """The messages that share the Scan are delivered by then."""
    async with opened(world) as bench:
        await bench.connect("c1")
        await bench.subscribe("c1")
        scan = world.engine.hold("scan")
        if error is not None:
            scan.error = error
        bench.complete()
        with anyio.move_on_after(1) as waited:
            await bench.settle()
        assert waited.cancelled_caught
        scan.let_go()
        await bench.settle()
    assert bench.gateway.types("c1") == ["complete"]
