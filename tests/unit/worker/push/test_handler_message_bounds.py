"""How many of the handlers' own messages may wait, and which are dropped first."""

from __future__ import annotations

import anyio
import pytest

from streamer_worker.events import Events, PushTried
from streamer_worker.push.message_queue import MessageKind, MessageQueue
from streamer_worker.push.messages import HandlerMessage, Message
from streamer_worker.push.push_thread import Mailbox
from unit.worker.harness import Recorder, World, virtual_time
from unit.worker.push.notifier_bench import opened
from unit.worker.push.test_bounds import complete, drained, progress
from unit.worker.push.test_handler_messages import message

pytestmark = pytest.mark.anyio


@virtual_time
async def test_messages_never_displace_outcomes(world: World) -> None:
    """A thousand messages to one connection leave its outcomes where they are. Proves PUSH-4."""
    async with opened(world, timeout=60) as bench:
        await bench.connect("c1")
        bench.gateway.always["c1"] = 30.0
        bench.send("under way", own="c1")
        await anyio.sleep(1)
        for number in range(50):
            bench.complete(request_id=f"e{number}", own="c1")
        for number in range(2000):
            bench.send(number, own="c1")
        await anyio.sleep(1)
        assert bench.outcomes() == {("message", "dropped"): 1001}
        bench.gateway.always["c1"] = 0.01
        await bench.settle()
    assert bench.outcomes()["complete", "sent"] == 50


async def test_a_mailbox_full_of_messages_drops_the_oldest_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Progress and outcomes keep their places."""
    monkeypatch.setattr("streamer_worker.push.push_thread._MOST_OF_HANDLERS", 10)
    recorder = Recorder()
    mailbox = Mailbox(Events(recorder))
    mailbox.put(progress("p"))
    mailbox.put(complete("e"))
    for number in range(15):
        mailbox.put(message("r1", str(number)))
    notifier = await drained(mailbox)
    kept = [one.data for one in notifier.messages if isinstance(one, HandlerMessage)]
    assert kept == [str(number) for number in range(5, 15)]
    assert [one.type for one in notifier.messages if not isinstance(one, HandlerMessage)] == [
        "progress",
        "complete",
    ]
    assert recorder.of(PushTried) == [PushTried(type="message", outcome="dropped", count=5)]


async def test_a_mailbox_bounds_the_bytes_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it bounds their number."""
    size = message("r").size
    monkeypatch.setattr("streamer_worker.push.push_thread._MAX_SIZE_OF_HANDLERS", 3 * size)
    mailbox = Mailbox(Events())
    for _ in range(10):
        mailbox.put(message("r1"))
    assert len((await drained(mailbox)).messages) == 3


async def test_messages_are_dropped_before_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    """If outcomes alone fill the mailbox."""
    monkeypatch.setattr("streamer_worker.push.push_thread._MOST", 5)
    recorder = Recorder()
    mailbox = Mailbox(Events(recorder))
    mailbox.put(message("r1"))
    mailbox.put(progress("p1"))
    for number in range(6):
        mailbox.put(complete(f"e{number}"))
    assert {message.type for message in (await drained(mailbox)).messages} == {"complete"}
    assert {event.type: event.count for event in recorder.of(PushTried)} == {
        "progress": 1,
        "message": 1,
        "complete": 1,
    }


def test_a_queue_counts_the_bytes_of_messages() -> None:
    """Those that are removed one by one, too."""
    queue: MessageQueue[Message] = MessageQueue()
    first, second = message("r1"), message("r1", '"longer"')
    for one in (first, second, progress("r1"), complete("r2")):
        queue.put(one)
    assert queue.ordered_size == first.size + second.size
    assert queue.discard(first)
    assert not queue.discard(first)
    assert queue.pop(MessageKind.ORDERED) is second
    assert queue.ordered_size == 0
    queue.put(first)
    assert queue.pop_all()[1] is first
    assert (queue.ordered_size, queue.size, len(queue)) == (0, 0, 0)
