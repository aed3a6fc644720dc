"""Connections that are closed, and posts that raise unknown errors."""

from __future__ import annotations

import anyio
import pytest

from streamer_store import NotFound
from streamer_worker.events import ConnectionGone, StepFailed
from streamer_worker.push.errors import Gone
from unit.worker.harness import World, virtual_time
from unit.worker.push.notifier_bench import opened

pytestmark = [pytest.mark.anyio, virtual_time]


async def test_a_closed_connection_gets_no_more_progress(world: World) -> None:
    """While the recipients are cached, it is posted to once and deleted once."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1", "c2")
        bench.gateway.always["c1"] = Gone("closed")
        for number in range(30):
            bench.progress(str(number))
            await anyio.sleep(0.1)
        await bench.settle()
    assert [connection_id for _, connection_id in bench.gateway.tried].count("c1") == 1
    assert len(world.recorder.of(ConnectionGone)) == 1
    assert len(bench.gateway.received["c2"]) > 20


async def test_deleting_closed_connections_delays_no_posts(world: World) -> None:
    """A deletion does not use the concurrency of posts, however long it takes."""
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


async def test_a_final_message_survives_an_unknown_error(world: World) -> None:
    """Each unknown error is emitted, and the message is tried again."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [KeyError("Error"), AttributeError("no body")]
        bench.complete(own="c1")
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    assert [type(event.error) for event in world.recorder.of(StepFailed)] == [
        KeyError,
        AttributeError,
    ]
    assert bench.outcomes() == {("complete", "failed"): 2, ("complete", "sent"): 1}
