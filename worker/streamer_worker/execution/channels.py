"""How a handler's context reaches its worker: from the event loop, and from a thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from anyio import from_thread
from anyio.lowlevel import EventLoopToken

from streamer_worker.execution.attempt import Attempt
from streamer_worker.execution.processes.forks import ForkedHere
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.handlers.client_message import ClientMessage
from streamer_worker.handlers.context import Context, HandlerCancelled
from streamer_worker.handlers.worker_channel import ProgressUpdate, WorkerChannel
from streamer_worker.loop_calls import LoopCalls


class LoopChannel:
    """A WorkerChannel for the worker's own event loop. `progress`, `report`, `checkpoint` and
    `send` raise ForkedHere in a forked child of the worker.

    push: passes a message to the push service, from any thread.
    """

    def __init__(
        self, attempt: Attempt, writer: ProgressWriter, push: Callable[[ClientMessage], None]
    ) -> None:
        self._attempt = attempt
        self._writer = writer
        self._push = push
        self._pid = os.getpid()
        self.notify = writer.notify

    async def progress(self, update: ProgressUpdate) -> None:
        self._check("progress")
        await self._writer.progress(update)

    async def checkpoint(self, value: Any) -> None:
        self._check("checkpoint")
        await self._writer.checkpoint(value)

    def report(self, update: ProgressUpdate) -> bool:
        self._check("progress")
        return self._writer.report(update)

    def send(self, message: ClientMessage) -> None:
        self._check(message.method)
        if not self._attempt.cancelled:
            self._push(message)

    def _check(self, operation: str) -> None:
        if os.getpid() != self._pid:
            raise ForkedHere(f"ctx.{operation}()")

    @property
    def draining(self) -> bool:
        return self._attempt.draining

    @property
    def cancelled(self) -> bool:
        return self._attempt.cancelled


def context_of(
    attempt: Attempt,
    writer: ProgressWriter,
    *,
    push: Callable[[ClientMessage], None],
    deadline: datetime,
    state: Any,
) -> Context[Any]:
    """Return the context that the handler of an attempt gets. `push`: as of LoopChannel."""
    request = attempt.claim.request
    return Context(
        request_id=request.request_id,
        action=request.action,
        attempt=request.retry_count + 1,
        max_retries=request.max_retries,
        deadline=deadline,
        connection_id=request.connection_id,
        user_id=request.user_id,
        tenant_id=request.tenant_id,
        created_at=request.created_at,
        metadata=request.metadata,
        last_checkpoint=request.checkpoint,
        state=state,
        channel=LoopChannel(attempt, writer, push),
    )


class ThreadChannel:
    """A SyncWorkerChannel that passes calls from threads to a WorkerChannel.

    Create it on the event loop's thread. Its methods may be called from:

    1. the handler's thread;
    2. threads that the handler has started;
    3. code that the handler runs on the event loop by anyio.from_thread, except `checkpoint`, which
       would block the loop and raises RuntimeError there.

    In a forked child of the worker `progress`, `checkpoint` and `send` raise ForkedHere.
    """

    def __init__(self, channel: WorkerChannel, token: EventLoopToken) -> None:
        self._channel = channel
        self._pid = os.getpid()
        self._loop_calls = LoopCalls(token)

    @property
    def draining(self) -> bool:
        return self._channel.draining

    @property
    def cancelled(self) -> bool:
        return self._channel.cancelled

    def progress(self, update: ProgressUpdate) -> None:
        self._check("progress")
        if self._channel.report(update):
            self._loop_calls(self._channel.notify)

    def send(self, message: ClientMessage) -> None:
        self._check(message.method)
        self._channel.send(message)

    def checkpoint(self, value: Any) -> None:
        self._check("checkpoint")
        if self._loop_calls.is_here:
            raise RuntimeError(
                "the checkpoint of a SyncContext would block the event loop for ever:"
                " call it from the handler's own thread"
            )
        try:
            from_thread.run(self._channel.checkpoint, value, token=self._loop_calls.token)
        except BaseException as error:
            # Either the event loop's own exception for a cancelled task, or a lost claim.
            if self._channel.cancelled:
                raise HandlerCancelled from error
            raise
        self._check("checkpoint")

    def _check(self, operation: str) -> None:
        if os.getpid() != self._pid:
            raise ForkedHere(f"ctx.{operation}()")
        if self._channel.cancelled:
            raise HandlerCancelled
        with suppress(RuntimeError):  # a thread that the handler started has no scope around it
            from_thread.check_cancelled()
