"""Limits of waiting messages, and the isolation of failing connections."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from streamer_store import EventType
from streamer_worker.events import Events, PushTried
from streamer_worker.push.errors import PushFailed
from streamer_worker.push.messages import CompleteMessage, Message, ProgressMessage
from streamer_worker.push.outbox import Delivery, Encoded, Outbox, Waiting
from streamer_worker.push.push_thread import Mailbox
from support import START, connection
from unit.worker.harness import Recorder, World, virtual_time
from unit.worker.push.notifier_bench import ENDPOINT, opened

pytestmark = pytest.mark.anyio


def progress(request_id: str, message: str = "") -> ProgressMessage:
    return ProgressMessage(
        request_id=request_id, connection_id="c1", at=START, fraction=0, message=message, details={}
    )


def complete(request_id: str) -> CompleteMessage:
    return CompleteMessage(request_id=request_id, connection_id="c1", at=START, result={})


class FakeNotifier:
    """A notifier that keeps the messages that are offered to it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass

    def offer(self, message: Message) -> None:
        self.messages.append(message)

    async def flush(self, _seconds: float) -> None:
        pass

    def ids(self, kind: EventType) -> list[str]:
        return [message.request_id for message in self.messages if message.type is kind]


async def drained(mailbox: Mailbox) -> FakeNotifier:
    notifier: Any = FakeNotifier()
    mailbox.close()
    await mailbox.drain_into(notifier)
    return notifier  # type: ignore[no-any-return]


async def test_a_full_mailbox_drops_progress_before_final_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest progress is dropped first, and the drops are reported."""
    monkeypatch.setattr("streamer_worker.push.push_thread._MOST", 10)
    recorder = Recorder()
    mailbox = Mailbox(Events(recorder))
    for number in range(8):
        mailbox.put(progress(f"p{number}"))
        mailbox.put(progress(f"p{number}", "newer"))  # replaces the first
    for number in range(8):
        mailbox.put(complete(f"e{number}"))
    notifier = await drained(mailbox)
    assert notifier.ids(EventType.PROGRESS) == ["p6", "p7"]
    assert notifier.ids(EventType.COMPLETE) == [f"e{number}" for number in range(8)]
    assert recorder.of(PushTried) == [PushTried(type="progress", outcome="dropped", count=6)]


async def test_a_mailbox_full_of_final_messages_drops_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Progress that is added then is dropped at once."""
    monkeypatch.setattr("streamer_worker.push.push_thread._MOST", 10)
    recorder = Recorder()
    mailbox = Mailbox(Events(recorder))
    for number in range(12):
        mailbox.put(complete(f"e{number}"))
    mailbox.put(progress("late"))
    notifier = await drained(mailbox)
    assert notifier.ids(EventType.PROGRESS) == []
    assert notifier.ids(EventType.COMPLETE) == [f"e{number}" for number in range(2, 12)]
    assert {event.type: event.count for event in recorder.of(PushTried)} == {
        "complete": 2,
        "progress": 1,
    }


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_messages_are_collected_after_some_were_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first message of a burst does not wait. Closing ends the wait of the others."""
    monkeypatch.setattr("streamer_worker.push.push_thread._COLLECT_FOR", 3600)
    mailbox = Mailbox(Events())
    notifier: Any = FakeNotifier()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mailbox.drain_into, notifier)
            await anyio.wait_all_tasks_blocked()
            mailbox.put(complete("e1"))
            while not notifier.messages:
                await anyio.wait_all_tasks_blocked()
            mailbox.put(complete("e2"))
            await anyio.wait_all_tasks_blocked()
            assert notifier.ids(EventType.COMPLETE) == ["e1"]
            mailbox.close()
    assert notifier.ids(EventType.COMPLETE) == ["e1", "e2"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("seconds", [0.0, 0.001])
async def test_a_message_of_a_burst_waits_a_moment_at_most(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was put during the wait is offered after it, without another `put`."""
    monkeypatch.setattr("streamer_worker.push.push_thread._COLLECT_FOR", seconds)
    mailbox = Mailbox(Events())
    notifier: Any = FakeNotifier()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mailbox.drain_into, notifier)
        with anyio.fail_after(20):
            for number in range(1, 50):
                mailbox.put(complete(f"e{number}"))
                mailbox.put(complete(f"f{number}"))
                while len(notifier.messages) < 2 * number:
                    await anyio.lowlevel.checkpoint()
        mailbox.close()


def delivery(message: Message) -> Delivery:
    return Delivery(
        type=message.type,
        kind=message.kind,
        request_id=message.request_id,
        encoded=Encoded(b""),
        overtakes_at=2.0,
        give_up_at=30.0,
    )


def outbox() -> Outbox:
    return Outbox(connection("c1", endpoint=ENDPOINT, connected_at=START), Waiting())


def test_an_outbox_is_bounded() -> None:
    """An outbox holds a hundred final messages, and progress of a hundred requests."""
    box = outbox()
    dropped = [item for number in range(150) for item in box.put(delivery(complete(f"e{number}")))]
    assert [item.request_id for item in dropped] == [f"e{number}" for number in range(50)]
    dropped = [item for number in range(150) for item in box.put(delivery(progress(f"p{number}")))]
    assert [item.request_id for item in dropped] == [f"p{number}" for number in range(50)]
    left = Counter(item.type for item in box.pop_all())
    assert left == {EventType.COMPLETE: 100, EventType.PROGRESS: 100}


def test_newer_progress_drops_no_progress_of_other_requests() -> None:
    """A request that reports often replaces its own progress only."""
    box = outbox()
    for number in range(100):
        box.put(delivery(progress(f"p{number}")))
    (replaced,) = box.put(delivery(progress("p0", "newer")))
    assert replaced.request_id == "p0"
    assert len(box.pop_all()) == 100


@virtual_time
async def test_half_of_the_topics_are_reserved_for_final_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While recipients cannot be read, progress is dropped before final messages are."""
    monkeypatch.setattr("streamer_worker.push.limits.MOST", 20)
    async with opened(world) as bench:
        fault = world.engine.hold("scan", times=10**6)
        for number in range(15):
            bench.progress("going", request_id=f"p{number}")
        await fault.wait_reached()
        assert bench.outcomes() == {("progress", "dropped"): 5}
        for number in range(15):
            bench.complete(request_id=f"e{number}")
        assert bench.outcomes() == {("progress", "dropped"): 5, ("complete", "dropped"): 5}
        fault.let_go()
        await bench.settle()


@virtual_time
async def test_half_of_the_outboxes_are_reserved_for_final_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While connections are slow, progress is dropped before final messages are."""
    monkeypatch.setattr("streamer_worker.push.limits.MOST", 20)
    async with opened(world, timeout=5) as bench:
        ids = [f"c{number}" for number in range(30)]
        await bench.connect(*ids)
        bench.gateway.always = dict.fromkeys(ids, 4.0)
        await bench.subscribe(*ids[:15], request_id="r1")
        await bench.subscribe(*ids[15:], request_id="r2")
        bench.progress("going", request_id="r1")
        await anyio.sleep(1)
        assert bench.outcomes() == {("progress", "dropped"): 5}
        bench.complete(request_id="r2")
        await anyio.sleep(1)
        assert bench.outcomes() == {("progress", "dropped"): 5, ("complete", "dropped"): 5}
        await bench.settle()
    assert bench.outcomes()["complete", "sent"] == 10


@virtual_time
async def test_failing_connections_do_not_delay_others(world: World) -> None:
    """Posts to connections whose last post failed have a tenth of the concurrency."""
    async with opened(world, max_concurrent_posts=10, timeout=5) as bench:
        bad = [f"bad{number}" for number in range(50)]
        await bench.connect(*bad, "good")
        await bench.subscribe(*bad)
        bench.gateway.answers = {name: [PushFailed("500")] for name in bad}
        bench.gateway.always = dict.fromkeys(bad, 60.0)
        bench.complete()
        await anyio.sleep(10)  # all have failed by now, and their next posts hang
        assert bench.gateway.under_way == 1
        began = anyio.current_time()
        bench.complete(request_id="r2", own="good")
        while not bench.gateway.received:  # noqa: ASYNC110  virtual time
            await anyio.sleep(0.01)
        assert anyio.current_time() - began < 0.1


@virtual_time
async def test_a_post_that_succeeds_ends_the_failure_streak(world: World) -> None:
    """The connection shares the limit of the others again."""
    async with opened(world, max_concurrent_posts=10) as bench:
        ids = [f"c{number}" for number in range(10)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        bench.gateway.answers = {name: [PushFailed("500")] for name in ids}
        bench.complete()
        await bench.settle()
        await anyio.sleep(10)
        bench.gateway.most = 0
        bench.gateway.always = dict.fromkeys(ids, 1.0)
        bench.complete(request_id="r1")
        await bench.settle()
    assert bench.gateway.most == 10


@virtual_time
async def test_a_quiet_time_allows_no_burst_of_progress(world: World) -> None:
    """The rate limits the posts of each second, and what was not used is lost."""
    async with opened(world, progress_rate=10) as bench:
        ids = [f"c{number}" for number in range(100)]
        await bench.connect(*ids)
        await bench.subscribe(*ids)
        await anyio.sleep(60)
        bench.progress("one")
        await anyio.sleep(1)
        assert 9 <= len(bench.gateway.tried) <= 12


def test_an_outbox_is_urgent_while_final_messages_wait() -> None:
    """Progress then does not wait for its rate."""
    box = outbox()
    box.put(delivery(progress("p")))
    assert not box.urgent.is_set()
    finals = [delivery(complete(name)) for name in ("e1", "e2")]
    for final in finals:
        box.put(final)
    box.discard(finals[0])
    assert box.urgent.is_set()
    box.discard(finals[1])
    assert not box.urgent.is_set()
    box.put(finals[0])
    box.pop_all()
    assert not box.urgent.is_set()


def test_a_new_delivery_was_not_tried() -> None:
    """A flush waits for its first post."""
    box = outbox()
    box.tried = True
    box.put(delivery(complete("e1")))
    assert not box.tried
