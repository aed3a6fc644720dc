"""The messages whose recipients are not determined yet, by request."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup

from streamer_worker.changes import Changes
from streamer_worker.push.messages import Message
from streamer_worker.push.recipients import Recipients
from streamer_worker.push.subscription_check import SubscriptionCheck

_PROGRESS_EVERY: Final = 0.1


class Distribute(Protocol):
    """Puts messages into the outboxes of their recipients."""

    async def __call__(self, message: Message, *, may_be_subscribed: bool) -> int:
        """Return the number of the recipients. Does not raise.

        may_be_subscribed: False if only the request's own connection can be a recipient.
        """
        ...


@dataclass(slots=True, eq=False)
class _Topic:
    """The messages of one request whose recipients are not determined yet.

    kept: the messages that no newer one replaces, in their order.
    progress: the newest progress that was offered after them.
    suspended: the topic waits until it may take newer progress.
    kept_offered: set by a kept message. None while the topic is not suspended.
    """

    request_id: str
    kept: list[Message] = field(default_factory=list)
    progress: Message | None = None
    suspended: bool = False
    kept_offered: anyio.Event | None = None

    @property
    def next(self) -> Message | None:
        return self.kept[0] if self.kept else self.progress

    @property
    def size(self) -> int:
        size = sum(message.size for message in self.kept)
        return size if self.progress is None else size + self.progress.size

    def offer(self, message: Message) -> None:
        """Add a message. It replaces waiting progress. Progress after a final message is dropped.
        A final message replaces another one.
        """
        if message.is_kept:
            self.progress = None
            if self.kept and self.kept[-1].is_final:
                self.kept.pop()
            self.kept.append(message)
            self.suspended = False
            if self.kept_offered is not None:
                self.kept_offered.set()
        elif not self.kept or not self.kept[-1].is_final:
            self.progress = message

    def take(self) -> Message:
        """Remove and return the next message. There must be one."""
        if self.kept:
            return self.kept.pop(0)
        assert self.progress is not None  # noqa: S101
        message, self.progress = self.progress, None
        return message


class Topics:
    """Holds the messages of each request until their recipients are determined.

    There are three cases:

    1. Subscriptions were found a short time ago. Each message is distributed by its own task.
    2. It is not known whether there are any. The messages that wait at one moment share one Scan,
       which begins after all of them were offered (PUSH-3).
    3. The Scan found none. Messages without a connection of their own are done, without a task.

    The messages of one request are distributed one after another. Not thread-safe.
    """

    def __init__(
        self,
        *,
        recipients: Recipients,
        check: SubscriptionCheck,
        distribute: Distribute,
        progress_rate: float,
        changes: Changes,
    ) -> None:
        self._recipients = recipients
        self._check = check
        self._distribute = distribute
        self._progress_rate = progress_rate
        self._changes = changes
        self._topics: dict[str, _Topic] = {}
        # Bytes of memory of the messages that are not distributed yet.
        self.size = 0
        # Topics whose next message waits for a Scan, and whether the task that scans runs.
        self._unchecked: list[_Topic] = []
        self._scanning = False

    def __len__(self) -> int:
        return len(self._topics)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._topics

    @property
    def all_suspended(self) -> bool:
        """Whether every message was distributed, except progress that waits for its rate."""
        return all(topic.suspended for topic in self._topics.values())

    def offer(self, message: Message, tasks: TaskGroup) -> None:
        """Add a message. It is distributed by a task in `tasks`."""
        topic = self._topics.get(message.request_id)
        if topic is not None:
            before = topic.size
            topic.offer(message)
            self.size += topic.size - before
        elif not self._recipients.known_to_be_none(message):
            topic = self._topics[message.request_id] = _Topic(message.request_id)
            topic.offer(message)
            self.size += message.size
            self._continue(topic, tasks)

    def _continue(self, topic: _Topic, tasks: TaskGroup) -> None:
        """Distribute the next message of a topic. Without one, the topic ends."""
        if topic.next is None:
            del self._topics[topic.request_id]
            self._changes.notify()
        elif self._check.assume_exist or self._recipients.are_known(topic.next):
            self._start(topic, topic.take(), tasks, may_be_subscribed=True)
        else:
            self._unchecked.append(topic)
            if not self._scanning:
                self._scanning = True
                tasks.start_soon(self._scan, tasks)

    async def _scan(self, tasks: TaskGroup) -> None:
        """Scan for the topics that wait, until none does."""
        while self._unchecked:
            await self._check.wait_for_turn()
            topics, self._unchecked = self._unchecked, []
            # Taken before the Scan begins: it says nothing about messages that are offered later.
            taken = [(topic, topic.take()) for topic in topics]
            exist = await self._check.scan()
            for topic, message in taken:
                if exist or message.connection_id:
                    self._start(topic, message, tasks, may_be_subscribed=exist)
                else:
                    self._recipients.remember_none(message)
                    self.size -= message.size
                    self._continue(topic, tasks)
        self._scanning = False

    def _start(
        self, topic: _Topic, message: Message, tasks: TaskGroup, *, may_be_subscribed: bool
    ) -> None:
        run = partial(self._run, topic, message, tasks, may_be_subscribed=may_be_subscribed)
        tasks.start_soon(run)

    async def _run(
        self, topic: _Topic, message: Message, tasks: TaskGroup, *, may_be_subscribed: bool
    ) -> None:
        """Distribute one message of a topic, and continue."""
        recipients = await self._distribute(message, may_be_subscribed=may_be_subscribed)
        self.size -= message.size
        if not message.is_kept and not topic.kept:
            await self._pause_progress(topic, recipients)
        self._continue(topic, tasks)

    async def _pause_progress(self, topic: _Topic, recipients: int) -> None:
        """Wait until the progress rate allows newer progress, or a kept message was offered."""
        topic.suspended = True
        topic.kept_offered = kept_offered = anyio.Event()
        self._changes.notify()
        with anyio.move_on_after(max(_PROGRESS_EVERY, recipients / self._progress_rate)):
            await kept_offered.wait()
        topic.suspended = False
        topic.kept_offered = None
