"""Limits of waiting messages by their bytes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from streamer_store import EventType
from streamer_worker.events import Events, PushTried
from streamer_worker.push.message_queue import MessageKind
from streamer_worker.push.messages import CompleteMessage, ProgressMessage, memory_size
from streamer_worker.push.outbox import Delivery, Encoded, Outbox, Waiting
from streamer_worker.push.push_thread import Mailbox
from support import START, connection
from unit.worker.harness import Recorder, World, virtual_time
from unit.worker.push.notifier_bench import ENDPOINT, Bench, opened
from unit.worker.push.test_bounds import drained

pytestmark = pytest.mark.anyio
_TEXT = "x" * 1000


def progress(request_id: str, text: str = _TEXT) -> ProgressMessage:
    return ProgressMessage(
        request_id=request_id, connection_id=None, at=START, fraction=0, message=text, details={}
    )


def complete(request_id: str, own: str | None = None) -> CompleteMessage:
    result = {"text": _TEXT}
    return CompleteMessage(request_id=request_id, connection_id=own, at=START, result=result)


def encoded_delivery(
    name: str, encoded: Encoded, kind: MessageKind = MessageKind.FINAL
) -> Delivery:
    return Delivery(
        type=kind.name,
        kind=kind,
        request_id=name,
        encoded=encoded,
        overtakes_at=2.0,
        give_up_at=30.0,
    )


async def test_a_mailbox_drops_the_oldest_progress_and_then_final_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It drops until the bytes are few enough, and the drops are reported."""
    size = complete("e").size
    monkeypatch.setattr("streamer_worker.push.push_thread._MAX_SIZE", 6 * size)
    recorder = Recorder()
    mailbox = Mailbox(Events(recorder))
    for number in range(5):
        mailbox.put(progress(f"p{number}"))
    mailbox.put(progress("p4", ""))
    for number in range(8):
        mailbox.put(complete(f"e{number}"))
    mailbox.put(progress("large", 7 * size * "x"))
    notifier = await drained(mailbox)
    assert notifier.ids(EventType.PROGRESS) == []
    assert notifier.ids(EventType.COMPLETE) == [f"e{number}" for number in range(2, 8)]
    dropped = {event.type: event.count for event in recorder.of(PushTried)}
    assert dropped == {"progress": 6, "complete": 2}


def test_a_mailbox_that_was_emptied_has_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that were replaced or taken do not count."""
    monkeypatch.setattr("streamer_worker.push.push_thread._MAX_SIZE", 4 * complete("e").size)
    recorder = Recorder()
    mailbox = Mailbox(Events(recorder))

    async def pass_on_three() -> None:
        for number in range(3):
            mailbox.put(progress("r1", f"{number}{_TEXT}"))
            mailbox.put(complete(f"e{number}"))
        await drained(mailbox)

    for _ in range(3):
        anyio.run(pass_on_three)
    assert recorder.events == []


async def _offer_ten(bench: Bench) -> None:
    for number in range(10):
        bench.notifier.offer(progress(f"p{number}"))
    for number in range(10):
        bench.notifier.offer(complete(f"e{number}"))


@virtual_time
async def test_half_of_the_bytes_are_reserved_for_final_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest messages are dropped while recipients cannot be read, and none after that."""
    monkeypatch.setattr("streamer_worker.push.limits.MAX_SIZE", 10 * progress("p").size)
    dropped: dict[tuple[str, str], int] = {}
    async with opened(world) as bench:
        for turn in range(1, 4):
            scan = world.engine.hold("scan")
            await _offer_ten(bench)
            await scan.wait_reached()
            dropped = {("progress", "dropped"): 5 * turn, ("complete", "dropped"): 5 * turn}
            assert bench.outcomes() == dropped
            scan.let_go()
            await bench.settle()
            await anyio.sleep(6)
    assert bench.outcomes() == dropped


@virtual_time
async def test_a_message_is_dropped_if_the_outboxes_have_too_many_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message counts once for all of its recipients. After the posts there is room again."""
    monkeypatch.setattr("streamer_worker.push.limits.MAX_SIZE", 2000)
    async with opened(world, timeout=5) as bench:
        ids = [f"c{number}" for number in range(10)]
        await bench.connect(*ids)
        for request_id in ("r1", "r2", "r3"):
            await bench.subscribe(*ids, request_id=request_id)
        bench.gateway.always = dict.fromkeys(ids, 4.0)
        for turn in range(1, 3):
            for request_id in ("r1", "r2", "r3"):
                bench.notifier.offer(complete(request_id))
                await anyio.sleep(0.5)
            assert bench.outcomes()["complete", "dropped"] == 10 * turn
            await bench.settle()
        assert bench.outcomes()["complete", "sent"] == 40


def test_outboxes_count_what_waits_in_them() -> None:
    """Deliveries that were replaced, dropped, posted or given up do not count."""
    waiting = Waiting()
    one, two = (
        Outbox(connection(name, endpoint=ENDPOINT, connected_at=START), waiting)
        for name in ("c1", "c2")
    )
    shared, other = Encoded(b"12345"), Encoded(b"123")
    posted = encoded_delivery("r1", shared)
    one.put(posted)
    two.put(encoded_delivery("r1", shared))
    one.put(encoded_delivery("r2", other, MessageKind.PROGRESS))
    assert waiting.size == 8
    one.put(encoded_delivery("r2", Encoded(b"1"), MessageKind.PROGRESS))
    assert waiting.size == 6
    one.discard(posted)
    one.discard(posted)
    assert waiting.size == 6
    two.pop_all()
    assert waiting.size == 1
    for number in range(150):
        one.put(encoded_delivery(f"e{number}", Encoded(b"1")))
    assert waiting.size == 101
    one.pop_all()
    assert waiting.size == 0


@pytest.mark.parametrize(
    ("value", "least"),
    [
        ("x" * 10_000, 10_000),
        ({"a": ["x" * 5000, {"b": b"y" * 5000}]}, 10_000),
        ([None] * 1000, 8000),
        ({"x" * 1000: 1}, 1000),
    ],
)
def test_the_size_of_a_value_includes_its_parts(value: Any, least: int) -> None:
    """Keys count, too."""
    assert least <= memory_size(value) <= 4 * least


def test_counting_the_size_of_a_value_ends() -> None:
    """A list that contains itself has no end."""
    endless: list[Any] = []
    endless.append(endless)
    assert memory_size(endless) < 20_000_000
