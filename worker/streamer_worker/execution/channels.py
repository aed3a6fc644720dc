"""What ties a handler's context to its worker, on the loop and from a thread."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from datetime import datetime
from typing import Any

from anyio import from_thread
from anyio.lowlevel import EventLoopToken

from streamer_worker.execution.attempt import Running
from streamer_worker.execution.processes.forks import ForkedHere
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.handlers.context import (
    Context,
    HandlerCancelled,
    ProgressUpdate,
    WorkerChannel,
)


class WorkerLink:
    """A Link for the loop that the worker runs on. Progress and checkpoints raise ForkedHere in a
    forked child of the worker.
    """

    def __init__(self, running: Running, writer: ProgressWriter) -> None:
        self._running = running
        self._writer = writer
        self._pid = os.getpid()
        self.notify = writer.notify

    async def progress(self, told: ProgressUpdate) -> None:
        self._check("progress")
        await self._writer.progress(told)

    async def checkpoint(self, value: Any) -> None:
        self._check("checkpoint")
        await self._writer.checkpoint(value)

    def report(self, told: ProgressUpdate) -> bool:
        self._check("progress")
        return self._writer.report(told)

    def _check(self, operation: str) -> None:
        if os.getpid() != self._pid:
            raise ForkedHere(f"ctx.{operation}()")

    @property
    def draining(self) -> bool:
        return self._running.draining

    @property
    def cancelled(self) -> bool:
        return self._running.cancelled


def context_of(
    running: Running, writer: ProgressWriter, *, deadline: datetime, state: Any
) -> Context[Any]:
    """Return what the handler of a claim is given."""
    request = running.claim.request
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
        link=WorkerLink(running, writer),
    )


class ThreadLink:
    """A SyncLink over one. Threads that the handler itself has started may use it, too, and so
    may what the handler runs on the loop by anyio.from_thread, as far as nothing has to wait.
    In a forked child of the worker progress and checkpoints raise ForkedHere.

    Made on the loop's thread.
    """

    def __init__(self, link: WorkerChannel, token: EventLoopToken) -> None:
        self._link = link
        self._pid = os.getpid()
        self._token = token
        self._loop_thread = threading.get_ident()

    @property
    def draining(self) -> bool:
        return self._link.draining

    @property
    def cancelled(self) -> bool:
        return self._link.cancelled

    def progress(self, told: ProgressUpdate) -> None:
        self._check("progress")
        if not self._link.report(told):
            return
        if self._is_on_loop:
            self._link.notify()
        else:
            from_thread.run_sync(self._link.notify, token=self._token)

    def checkpoint(self, value: Any) -> None:
        self._check("checkpoint")
        if self._is_on_loop:
            raise RuntimeError(
                "the checkpoint of a SyncContext would block the event loop for ever:"
                " call it from the handler's own thread"
            )
        try:
            from_thread.run(self._link.checkpoint, value, token=self._token)
        except BaseException as error:
            # Either the loop's own exception for a task that was cancelled, or a lost claim.
            if self._link.cancelled:
                raise HandlerCancelled from error
            raise
        self._check("checkpoint")

    @property
    def _is_on_loop(self) -> bool:
        return threading.get_ident() == self._loop_thread

    def _check(self, operation: str) -> None:
        if os.getpid() != self._pid:
            raise ForkedHere(f"ctx.{operation}()")
        if self._link.cancelled:
            raise HandlerCancelled
        with suppress(RuntimeError):  # a thread of the handler's own has no scope around it
            from_thread.check_cancelled()
