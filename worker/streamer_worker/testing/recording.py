"""Records what a handler reports to its worker."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from anyio.lowlevel import current_token

from streamer_store import Progress
from streamer_worker.handlers.client_message import ClientMessage
from streamer_worker.handlers.worker_channel import ProgressUpdate, WorkerChannel
from streamer_worker.loop_calls import LoopCalls


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that the handler has sent.

    * `data`: the message, as a client gets it.
    * `user`, `tenant`: whose connections get it. None: the request's own connection.
    """

    data: Any
    user: str | None = None
    tenant: str | None = None


class Recorded:
    """What a handler has reported: `progress`, `checkpoints` and `sent`, each in its order."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.checkpoints: list[Any] = []
        self.sent: list[SentMessage] = []


class RecordingChannel:
    """A WorkerChannel that passes everything on, and records it. Create it on the event loop.

    read_checkpoint: returns the stored checkpoint.
    on_change: called on the event loop after each record.
    """

    def __init__(
        self,
        channel: WorkerChannel,
        recorded: Recorded,
        *,
        read_checkpoint: Callable[[], Awaitable[Any]],
        on_change: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._recorded = recorded
        self._read_checkpoint = read_checkpoint
        self._on_change = on_change
        self._loop_calls = LoopCalls(current_token())

    @property
    def draining(self) -> bool:
        return self._channel.draining

    @property
    def cancelled(self) -> bool:
        return self._channel.cancelled

    async def progress(self, update: ProgressUpdate) -> None:
        await self._channel.progress(update)
        self._append(update)
        self._on_change()

    async def checkpoint(self, value: Any) -> None:
        await self._channel.checkpoint(value)
        self._recorded.checkpoints.append(await self._read_checkpoint())
        self._on_change()

    def report(self, update: ProgressUpdate) -> bool:
        self._channel.report(update)
        self._append(update)
        return True

    def send(self, message: ClientMessage) -> None:
        self._channel.send(message)
        sent = SentMessage(json.loads(message.data), user=message.user, tenant=message.tenant)
        self._recorded.sent.append(sent)
        self._loop_calls(self._on_change)

    def notify(self) -> None:
        self._channel.notify()
        self._on_change()

    def _append(self, update: ProgressUpdate) -> None:
        details = None if update.details is None else dict(update.details)
        self._recorded.progress.append(Progress(update.fraction, update.message, details))
