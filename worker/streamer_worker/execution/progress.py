"""Writes a handler's progress and checkpoints to the table, and pushes its progress."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint as yield_to_loop

from streamer_store import (
    Cancelled,
    Claim,
    ClaimLost,
    InvalidInput,
    ItemTooLarge,
    Progress,
    RequestQueue,
    StoreError,
    ValidationError,
)
from streamer_worker.events import (
    CheckpointDelayed,
    Events,
    ProgressDropped,
    ProgressWritten,
    StepFailed,
    WriteFenced,
)
from streamer_worker.handlers.context import CheckpointInvalid
from streamer_worker.handlers.latest_progress import LatestProgress
from streamer_worker.handlers.serialization import serializable
from streamer_worker.handlers.worker_channel import ProgressUpdate
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime
from streamer_worker.sanitize import message_of

# All in seconds.
FIRST_DELAY: Final = 0.1
WRITE_INTERVAL: Final = 1.0
PUSH_INTERVAL: Final = 0.1
_LAST_WRITE_TIMEOUT: Final = 1.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
# A handler yields to the event loop when it reports: this often, or after so many reports.
_YIELD_INTERVAL: Final = 0.001
_YIELD_CALLS: Final = 100


class Coalescer:
    """Sends once for any number of triggers: FIRST_DELAY after the first of them, and at least
    `interval` seconds after the last send.

    The task that sends starts in `tasks` with the first trigger. Errors of `send` are reported
    as events. Event loop's thread only, except `triggered`, which any thread may read.
    """

    def __init__(
        self,
        send: Callable[[], Awaitable[None]],
        *,
        interval: float,
        tasks: TaskGroup,
        events: Events,
    ) -> None:
        self.triggered = False
        self._send = send
        self._events = events
        self._interval = interval
        self._tasks = tasks
        self._scope: anyio.CancelScope | None = None
        self._trigger_event = anyio.Event()

    def trigger(self) -> None:
        """Send soon."""
        if self.triggered:
            return
        self.triggered = True
        self._trigger_event.set()
        if self._scope is None:
            self._scope = anyio.CancelScope()
            self._tasks.start_soon(self._run, self._scope)

    def stop(self) -> None:
        """Stop for good, and cancel a send that is under way."""
        self.triggered = True  # a later trigger starts no task
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                await self._trigger_event.wait()
                # Many handlers end within this time. Then only the outcome is written and pushed.
                await anyio.sleep(FIRST_DELAY)
                self._trigger_event = anyio.Event()
                # Reset before `send` reads the progress: progress from now on triggers again.
                self.triggered = False
                try:
                    await self._send()
                except Exception as error:  # noqa: BLE001  other requests run in the same task group
                    self._events.emit(StepFailed(loop="progress", error=error))
                await anyio.sleep(self._interval - FIRST_DELAY)


class ProgressWriter:
    """Writes the progress and the checkpoints of one claim, one write at a time and in order
    (FENCE-2).

    `on_lost` is called when the fence refuses a write, `push` with the newest progress.
    `tasks` is the worker's task group, not the handler's, which a handler can break. Event
    loop's thread only, except `report`.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        claim: Claim,
        on_lost: Callable[[ClaimLost], None],
        push: Callable[[Progress], None],
        tasks: TaskGroup,
        runtime: Runtime,
    ) -> None:
        self._requests = requests
        self._claim = claim
        self._on_lost = on_lost
        self._push = push
        self._events = runtime.events
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._tasks = tasks
        self._latest_progress = LatestProgress(claim.request.progress)
        self._written = 0
        self._failing = False
        self._closed = False
        self._calls = 0
        self._yielded_at = self._clock.steady()
        # Made when they are first needed, since most short handlers report nothing. Written on the
        # event loop's thread. `report` reads `_senders` in any thread.
        self._writing: anyio.Lock | None = None
        self._senders: tuple[Coalescer, Coalescer] | None = None

    async def progress(self, update: ProgressUpdate) -> None:
        """Accept progress, and sometimes yield to the event loop: handlers report in tight
        loops. Raises as `report` does.
        """
        if self.report(update):
            self.notify()
        now = self._clock.steady()
        self._calls += 1
        if now - self._yielded_at >= _YIELD_INTERVAL or self._calls % _YIELD_CALLS == 0:
            await yield_to_loop()
            self._yielded_at = self._clock.steady()

    def report(self, update: ProgressUpdate) -> bool:
        """Accept progress, and return whether the caller must call `notify`. Any thread.

        Raises ValidationError, and ItemTooLarge for what no item has room for.
        """
        if not self._latest_progress.report(update):
            return False
        return self._senders is None or not all(sender.triggered for sender in self._senders)

    def notify(self) -> None:
        """Write and push the newest progress soon."""
        if not self._closed:
            for sender in self._get_senders():
                sender.trigger()

    async def checkpoint(self, value: Any) -> None:
        """Write a checkpoint and the newest progress. Returns once they are in the table, and
        retries through outages.

        Raises CheckpointInvalid for a value that cannot be stored, ItemTooLarge for a value that
        the request has no room for, and ClaimLost when the attempt has ended or the fence
        refused the write.
        """
        try:
            value = serializable(value)
        except Exception as error:
            raise CheckpointInvalid("checkpoint", message_of(error)) from error
        for pause in backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng):
            if await self._try_checkpoint(value):
                return
            await anyio.sleep(pause)

    @property
    def was_used(self) -> bool:
        """Whether the handler has reported progress or stored a checkpoint."""
        return self._writing is not None or self._latest_progress.updates > 0

    async def close(self) -> Progress | None:
        """Stop writing. Return the newest progress if it is not in the table yet, else None."""
        self._closed = True
        writes, pushes = self._senders or (None, None)
        if pushes is not None:
            pushes.stop()
        if self._writing is not None:
            # A write under way is awaited, not cancelled. After the timeout the fence refuses it.
            with anyio.move_on_after(_LAST_WRITE_TIMEOUT):
                async with self._writing:
                    pass
        if writes is not None:
            writes.stop()
        updates, newest = self._latest_progress.newest()
        return newest if self._written < updates else None

    def _get_senders(self) -> tuple[Coalescer, Coalescer]:
        """Return the tasks that write and that push progress."""
        if self._senders is None:
            make = partial(Coalescer, tasks=self._tasks, events=self._events)
            self._senders = (
                make(self._write, interval=WRITE_INTERVAL),
                make(self._push_newest, interval=PUSH_INTERVAL),
            )
        return self._senders

    def _get_writing(self) -> anyio.Lock:
        """Return the lock that is held while a write is under way."""
        if self._writing is None:
            self._writing = anyio.Lock()
        return self._writing

    async def _write(self) -> None:
        async with self._get_writing():
            updates, newest = self._latest_progress.newest()
            if updates == self._written:
                return
            try:
                await self._requests.update_progress(
                    self._claim, newest.fraction, newest.message, newest.details
                )
            except ClaimLost as error:
                self._mark_lost("progress", error)
            except InvalidInput as error:
                self._report_dropped(updates, error, retry=False)
            except StoreError as error:
                self._report_dropped(updates, error, retry=True)
            else:
                self._mark_written(updates)

    async def _try_checkpoint(self, value: Any) -> bool:
        """Write once, and return whether it succeeded. Without success it is worth a retry."""
        async with self._get_writing():
            if self._closed:  # called by a thread or task that the handler has left behind
                raise ClaimLost("the attempt has ended", key=self._claim.request_id)
            updates, newest = self._latest_progress.newest()
            unwritten = newest if updates > self._written else None
            try:
                await self._requests.checkpoint(self._claim, value, progress=unwritten)
            except ClaimLost as error:
                self._mark_lost("checkpoint", error)
                await yield_to_loop()
                raise  # a handler that shields itself must not believe that it was written
            except InvalidInput as error:
                if unwritten is not None:
                    self._report_dropped(updates, error, retry=False)
                    return False
                raise _refused_checkpoint(error) from error
            except StoreError as error:
                event = CheckpointDelayed(request_id=self._claim.request_id, error=error)
                self._events.emit(event)
                return False
            self._mark_written(updates)
            return True

    def _mark_lost(self, operation: str, error: ClaimLost) -> None:
        event = WriteFenced(
            request_id=self._claim.request_id,
            operation=operation,
            cancelled=isinstance(error, Cancelled),
            settles=False,
        )
        self._events.emit(event)
        self._on_lost(error)

    def _mark_written(self, updates: int) -> None:
        count = updates - self._written
        event = ProgressWritten(request_id=self._claim.request_id, reports=count)
        self._written = updates
        self._failing = False
        self._events.emit(event)

    def _report_dropped(self, updates: int, error: StoreError, *, retry: bool) -> None:
        """Retry with the next write, or give this progress up. Of consecutive failures that are
        retried only the first is reported.
        """
        if retry:
            writes, _ = self._get_senders()
            writes.trigger()
        else:
            self._written = updates
        if not (retry and self._failing):
            event = ProgressDropped(request_id=self._claim.request_id, error=error)
            self._events.emit(event)
        self._failing = retry

    async def _push_newest(self) -> None:
        self._push(self._latest_progress.newest()[1])


def _refused_checkpoint(error: InvalidInput) -> ValidationError:
    if isinstance(error, ItemTooLarge):
        text = f"the request has no room for it: {error.message}"
        return ItemTooLarge("checkpoint", text, size=error.size)
    field = error.field if isinstance(error, ValidationError) else "checkpoint"
    return CheckpointInvalid(field, error.message.removeprefix(f"{field}: "))
