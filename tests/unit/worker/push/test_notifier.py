"""The order, the rate and the tries of deliveries, in virtual time."""

from __future__ import annotations

import anyio
import pytest

from streamer_worker.events import ConnectionSuspended, PushTried, StepFailed
from streamer_worker.push.errors import PushFailed
from unit.worker.harness import World, virtual_time
from unit.worker.push.notifier_bench import opened

pytestmark = [pytest.mark.anyio, virtual_time]


async def test_a_slow_connection_gets_only_the_newest_progress(world: World) -> None:
    """It gets the final message, too. Another connection gets all messages."""
    async with opened(world) as bench:
        await bench.connect("slow", "quick")
        await bench.subscribe("slow", "quick")
        bench.gateway.always["slow"] = 2.5
        for number in range(20):
            bench.progress(str(number))
            await anyio.sleep(0.1)
        bench.complete()
        await bench.settle()
    assert bench.gateway.types("slow") == ["progress", "complete"]
    assert bench.gateway.types("quick") == ["progress"] * 20 + ["complete"]


async def test_a_final_message_overtakes_waiting_progress(world: World) -> None:
    """Progress of the request never comes after it."""
    async with opened(world, progress_rate=1) as bench:
        ids = [f"c{number}" for number in range(50)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        bench.progress("one")
        await anyio.sleep(1.5)
        began = anyio.current_time()
        bench.complete()
        await bench.settle()
        assert anyio.current_time() - began < 1
    assert all(bench.gateway.types(name)[-1] == "complete" for name in ids)
    assert sum(len(bench.gateway.types(name)) for name in ids) <= 53


async def test_progress_does_not_replace_a_waiting_final_message(world: World) -> None:
    """Progress that is offered after the end is dropped while the end waits."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.complete(own="c1")
        bench.progress("late", own="c1")
        await bench.settle()
    assert bench.gateway.types("c1") == ["complete"]


@pytest.mark.parametrize("delay", [0.01, 0.5])
async def test_kept_progress_is_posted_in_its_place(world: World, delay: float) -> None:
    """Neither newer progress nor the end replaces it, also for a slow connection."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c2")
        bench.gateway.always["c1"] = delay
        bench.progress("start", own="c1", kept=True)
        bench.progress("replaced", own="c1")
        bench.progress("half", own="c1")
        await anyio.sleep(4 * delay)
        bench.progress("replaced", own="c1")
        bench.progress("done", own="c1", kept=True)
        bench.complete(own="c1")
        bench.progress("late", own="c1")
        await bench.settle()
    for name in ("c1", "c2"):
        *messages, end = bench.gateway.received[name]
        assert [each["message"] for each in messages] == ["start", "half", "done"]
        assert end["type"] == "complete"


async def test_kept_progress_costs_no_final_message(world: World) -> None:
    """Of a hundred requests that end while a connection is slow, each end is posted."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [2.5]
        for number in range(100):
            for text in ("start", "done"):
                bench.progress(text, request_id=f"r{number}", own="c1", kept=True)
            bench.complete(request_id=f"r{number}", own="c1")
        await bench.settle()
    assert bench.gateway.types("c1").count("complete") == 100
    assert bench.outcomes()["complete", "dropped"] == 0


async def test_kept_progress_never_comes_after_the_end(world: World) -> None:
    """If its post fails, the end goes first, and it is dropped."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("503"), PushFailed("503")]
        bench.progress("done", own="c1", kept=True)
        bench.complete(own="c1")
        await bench.settle()
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    assert bench.outcomes()["progress", "dropped"] == 1


async def test_progress_keeps_to_its_rate(world: World) -> None:
    """`progress_rate` limits the posts per second of all connections together."""
    async with opened(world, progress_rate=50) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        began = anyio.current_time()
        for number in range(100):
            bench.progress(str(number))
            await anyio.sleep(0.1)
        took = anyio.current_time() - began
    assert len(bench.gateway.tried) <= 50 * took + 2
    assert len(bench.gateway.tried) >= 45 * took


async def test_progress_waits_until_older_progress_was_posted(world: World) -> None:
    """The recipients get the same progress, and little is dropped in their outboxes."""
    async with opened(world, progress_rate=50) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        for number in range(100):
            bench.progress(str(number))
            await anyio.sleep(0.1)
    assert bench.outcomes()["progress", "dropped"] <= 10


async def test_concurrent_posts_are_limited(world: World) -> None:
    """All messages arrive nevertheless."""
    async with opened(world, max_concurrent_posts=7) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        bench.complete()
        await bench.settle()
    assert bench.gateway.most == 7
    assert len(bench.gateway.received) == 100


async def test_a_final_message_is_tried_again(world: World) -> None:
    """It arrives after failures that pass."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("500"), PushFailed("timeout")]
        bench.complete(own="c1")
        await anyio.sleep(5)
    assert bench.gateway.types("c1") == ["complete"]
    assert bench.outcomes() == {("complete", "failed"): 2, ("complete", "sent"): 1}


async def test_a_post_that_succeeds_ends_the_longer_pauses(world: World) -> None:
    """After the next failure the pause is the first one again: half a second at most."""
    async with opened(world) as bench:
        await bench.connect("c1")
        failure = PushFailed("500")
        bench.gateway.answers["c1"] = [failure, failure, 0.01, failure]
        bench.complete(own="c1")
        bench.complete(request_id="r2", own="c1")
        await anyio.sleep(10)
    times = [at for at, _ in bench.gateway.tried]
    assert len(times) == 5
    assert times[4] - times[3] < 0.6


async def test_progress_is_not_tried_again(world: World) -> None:
    """Newer progress replaces it."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("429")]
        bench.progress("one", own="c1")
        await anyio.sleep(5)
        bench.progress("two", own="c1")
        await anyio.sleep(5)
    assert bench.gateway.messages("c1") == ["two"]


async def test_three_failures_suspend_a_connection(world: World) -> None:
    """No progress is posted to it for 30 s. The newest is kept and posted after that. An outcome is
    tried once, since it was not tried before.
    """
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [PushFailed("500")] * 4
        for number in range(3):
            bench.progress(str(number), own="c1")
            await anyio.sleep(6)
        (suspended,) = world.recorder.of(ConnectionSuspended)
        assert (suspended.connection_id, suspended.code) == ("c1", "500")
        tried = len(bench.gateway.tried)
        bench.progress("older", own="c1")
        bench.progress("newest", own="c1")
        await anyio.sleep(5)
        assert len(bench.gateway.tried) == tried
        bench.complete(request_id="r2", own="c1")
        bench.complete(request_id="r3", own="c1")
        await anyio.sleep(25)
        assert len(bench.gateway.tried) == tried + 1
        await anyio.sleep(10)
    received = bench.gateway.received["c1"]
    assert [message["type"] for message in received] == ["complete", "complete", "progress"]
    assert received[2]["message"] == "newest"


async def test_a_final_message_is_given_up_after_a_minute(world: World) -> None:
    """Its outbox is removed."""
    async with opened(world) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = PushFailed("500")
        bench.complete(own="c1")
        await anyio.sleep(200)
        tries = [at for at, _ in bench.gateway.tried]
        assert 60 <= tries[-1] - tries[0] <= 95
        assert not len(bench.notifier._deliveries)
    assert len(world.recorder.of(ConnectionSuspended)) == 1


async def test_a_post_has_a_timeout(world: World) -> None:
    """A post that takes longer has failed."""
    async with opened(world, timeout=2) as bench:
        await bench.connect("c1")
        bench.gateway.answers["c1"] = [3600.0]
        bench.complete(own="c1")
        await anyio.sleep(10)
    assert bench.gateway.types("c1") == ["complete"]
    failed = [event for event in world.recorder.of(PushTried) if event.outcome == "failed"]
    assert [event.code for event in failed] == ["timeout"]


async def test_an_unknown_error_of_a_post_stops_no_delivery(world: World) -> None:
    """StepFailed is emitted, the message is tried again, and other deliveries continue."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1", "c2")
        bench.gateway.answers["c1"] = [RuntimeError("a bug")]
        bench.complete()
        await anyio.sleep(10)
        bench.complete()
        await bench.settle()
    assert len(world.recorder.of(StepFailed)) == 1
    assert bench.gateway.types("c2") == ["complete", "complete"]
    assert bench.gateway.types("c1") == ["complete", "complete"]


async def test_a_flush_waits_until_each_message_was_tried(world: World) -> None:
    """It does not wait for a connection that failed."""
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1", "c2")
        bench.gateway.always["c1"] = PushFailed("500")
        bench.gateway.always["c2"] = 2.0
        bench.complete()
        began = anyio.current_time()
        await bench.settle()
        assert 2 <= anyio.current_time() - began < 3
    assert bench.gateway.types("c2") == ["complete"]


async def test_the_number_of_topics_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages beyond the limit are dropped, and each drop is emitted."""
    monkeypatch.setattr("streamer_worker.push.limits.MOST", 10)
    async with opened(world) as bench:
        for number in range(30):
            bench.complete(request_id=f"r{number}")
        await bench.settle()
    assert bench.outcomes() == {("complete", "dropped"): 20}
