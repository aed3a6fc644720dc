"""Connections that are gone, and posts that fail in ways that nobody knows."""

from __future__ import annotations

import anyio
import pytest

from streamer_store import NotFound
from streamer_worker.events import ConnectionGone, StepFailed
from streamer_worker.push.errors import Gone
from unit.worker.harness import World, virtual_time
from unit.worker.push.test_notifier import opened

pytestmark = [pytest.mark.anyio, virtual_time]


async def test_a_connection_that_is_gone_is_told_no_more_progress(world: World) -> None:
    """Also while who wants progress is still remembered: it is posted to once, and removed once."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1", "c2")
        bench.gateway.always["c1"] = Gone("closed")
        for number in range(30):
            bench.progress(str(number))
            await anyio.sleep(0.1)
        await bench.settle()
    assert [each for _, each in bench.gateway.tried].count("c1") == 1
    assert len(world.recorder.of(ConnectionGone)) == 1
    assert len(bench.gateway.received["c2"]) > 20


async def test_removing_what_is_gone_delays_nobody(world: World) -> None:
    """It takes no place of a post, however long the table takes."""
    async with opened(world, max_concurrent_posts=2) as bench:
        await bench.connect("gone1", "gone2", "gone3", "c1")
        await bench.subscribe("gone1", "gone2", "gone3")
        bench.gateway.always = {f"gone{number}": Gone("closed") for number in (1, 2, 3)}
        fault = world.engine.hold("delete", times=10**6)
        bench.complete()
        await fault.wait_reached()
        await anyio.sleep(1)
        began = anyio.current_time()
        bench.complete(request_id="r2", own="c1")
        with anyio.fail_after(30):
            while not bench.gateway.received:  # noqa: ASYNC110  virtual time
                await anyio.sleep(0.01)
        assert anyio.current_time() - began < 0.1
        fault.let_go()
        await anyio.sleep(1)
    with pytest.raises(NotFound):
        await world.stores.connections.get("gone3")


async def test_an_end_survives_a_failure_that_nobody_knows(world: World) -> None:
    """A client may raise anything, for an answer that is none; each is told, and tried again."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [KeyError("Error"), AttributeError("no body")]
        bench.complete(own="c1")
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    assert [type(each.error) for each in world.recorder.of(StepFailed)] == [
        KeyError,
        AttributeError,
    ]
    assert bench.outcomes() == {("complete", "failed"): 2, ("complete", "sent"): 1}
