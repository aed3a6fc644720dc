"""The queue of messages: what newer messages replace, and the order of delivery."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer_worker.push.message_queue import MessageKind, MessageQueue
from streamer_worker.push.messages import Message
from unit.worker.push.test_bounds import complete, progress


def kept(request_id: str) -> Message:
    return replace(progress(request_id), kept=True)


def never(_final: Message) -> bool:
    return False


def queue_of(*messages: Message) -> MessageQueue[Message]:
    queue: MessageQueue[Message] = MessageQueue()
    for message in messages:
        queue.put(message)
    return queue


def test_newer_progress_replaces_older_progress_of_the_same_request() -> None:
    """`put` returns the progress that was replaced. Other requests keep theirs."""
    older, newer, other = progress("r1", "older"), progress("r1", "newer"), progress("r2")
    queue = queue_of(older, other)
    assert queue.put(newer) is older
    assert queue.pop_all() == [other, newer]


def test_a_final_message_replaces_progress_and_no_final_message() -> None:
    """All final messages are kept, in their order."""
    report, first, second = progress("r1"), complete("r1"), complete("r1")
    queue = queue_of(report)
    assert queue.put(first) is report
    assert queue.put(second) is None
    assert (queue.count(MessageKind.FINAL), queue.count(MessageKind.PROGRESS), len(queue)) == (
        2,
        0,
        2,
    )
    assert queue.pop(MessageKind.FINAL) is first


def test_final_messages_are_delivered_first() -> None:
    """`first` returns the oldest final message, then the oldest progress, then None."""
    early, late, end = progress("r1"), progress("r2"), complete("r3")
    queue = queue_of(early, late, end)
    for message in (end, early, late):
        assert queue.first(never) is message
        queue.discard(message)
    assert queue.first(never) is None


def test_all_messages_are_popped_with_progress_first() -> None:
    """A progress message never comes after a final message of its request."""
    end, report = complete("r1"), progress("r2")
    assert queue_of(end, report).pop_all() == [report, end]


def test_kept_progress_is_replaced_by_nothing() -> None:
    """Neither by newer progress nor by the end of its request, before which it is delivered."""
    start, newer, end = kept("r1"), progress("r1"), complete("r1")
    queue = queue_of(start)
    assert queue.put(newer) is None
    assert queue.put(end) is newer
    assert queue.first(never) is start
    assert queue.pop_all() == [start, end]


@pytest.mark.parametrize("message", [progress("r1"), kept("r1"), complete("r1")])
def test_a_message_that_is_not_in_the_queue_is_not_discarded(message: Message) -> None:
    """A message that was dropped meanwhile may be discarded again."""
    queue = queue_of(message)
    queue.pop_all()
    queue.put(progress("r1", "another"))
    queue.discard(message)
    assert len(queue) == 1
