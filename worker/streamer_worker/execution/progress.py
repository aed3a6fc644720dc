"""A handler's progress and checkpoints on their way to the table and to whoever waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint as breathe

from streamer_store import (
    Cancelled,
    Claim,
    ClaimLost,
    Clock,
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
from streamer_worker.execution.serialization import plain
from streamer_worker.handlers.context import CheckpointInvalid, ProgressUpdate
from streamer_worker.handlers.latest_progress import LatestProgress
from streamer_worker.retry import backoff
from streamer_worker.sanitize import message_of

if TYPE_CHECKING:
    import random

MOMENT: Final = 0.1
WRITE_EVERY: Final = 1.0
PUSH_EVERY: Final = 0.1
_LAST_WRITE: Final = 1.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_BREATHE_EVERY: Final = 0.001
_BREATHE_CALLS: Final = 100


class Coalescer:
    """Sends a moment after a poke, and at least so long after the last time, in a task that it
    starts when it is first needed. However many pokes come meanwhile, they are one.
    """

    def __init__(
        self,
        send: Callable[[], Awaitable[None]],
        *,
        every: float,
        tasks: TaskGroup,
        events: Events,
    ) -> None:
        self.poked = False
        self._send = send
        self._events = events
        self._every = every
        self._tasks = tasks
        self._scope: anyio.CancelScope | None = None
        self._wake = anyio.Event()

    def trigger(self) -> None:
        if self.poked:
            return
        self.poked = True
        self._wake.set()
        if self._scope is None:
            self._scope = anyio.CancelScope()
            self._tasks.start_soon(self._run, self._scope)

    def stop(self) -> None:
        self.poked = True  # nothing starts it again
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                await self._wake.wait()
                # Many handlers end within it: then there is only the outcome to write and push.
                await anyio.sleep(MOMENT)
                self._wake = anyio.Event()
                # Before it looks at what to send: what is told from now on pokes again.
                self.poked = False
                try:
                    await self._send()
                except Exception as error:  # noqa: BLE001  those tasks are not this request's alone
                    self._events.emit(StepFailed(loop="progress", error=error))
                await anyio.sleep(self._every - MOMENT)


class ProgressWriter:
    """Writes for one claim, one write at a time, so that none overtakes another. `tasks` are
    those of the worker: a handler that breaks its own does not take this along.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        claim: Claim,
        on_lost: Callable[[ClaimLost], None],
        push: Callable[[Progress], None],
        tasks: TaskGroup,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._requests = requests
        self._claim = claim
        self._on_lost = on_lost
        self._push = push
        self._events = events
        self._clock = clock
        self._rng = rng
        self._latest_progress = LatestProgress(claim.request.progress)
        self._writing = anyio.Lock()
        self._written = 0
        self._failing = False
        self._closed = False
        self._writes = Coalescer(self._write, every=WRITE_EVERY, tasks=tasks, events=events)
        self._pushes = Coalescer(self._push_newest, every=PUSH_EVERY, tasks=tasks, events=events)
        self._calls = 0
        self._breathed = clock.steady()

    async def progress(self, told: ProgressUpdate) -> None:
        """Take progress in, and let others run now and then: this may be a tight loop."""
        if self.report(told):
            self.notify()
        now = self._clock.steady()
        self._calls += 1
        if now - self._breathed >= _BREATHE_EVERY or self._calls % _BREATHE_CALLS == 0:
            await breathe()
            self._breathed = self._clock.steady()

    def report(self, told: ProgressUpdate) -> bool:
        """Take progress in, from any thread; return whether `wake` must be called."""
        if not self._latest_progress.report(told):
            return False
        return not (self._writes.poked and self._pushes.poked)

    def notify(self) -> None:
        """Have what was told written and pushed soon."""
        if not self._closed:
            self._writes.trigger()
            self._pushes.trigger()

    async def checkpoint(self, value: Any) -> None:
        """Write a checkpoint, and the progress with it, until the table has them.

        Raises CheckpointInvalid for a value that cannot be stored as it is; ItemTooLarge;
        ClaimLost where the handler is not cancelled first, and when the attempt has ended.
        """
        try:
            value = plain(value)
        except Exception as error:
            raise CheckpointInvalid("checkpoint", message_of(error)) from error
        for pause in backoff(_FIRST_PAUSE, _LONGEST_PAUSE, self._rng):
            if self._closed:  # a thread or a task that the handler has left behind
                raise ClaimLost("the attempt has ended", key=self._claim.request_id)
            if await self._wrote_checkpoint(value):
                return
            await anyio.sleep(pause)

    async def close(self) -> Progress | None:
        """Write no more, and return what the table does not have yet."""
        self._closed = True
        self._pushes.stop()
        # A write under way is better awaited than cut off; the fence stops it if it is late.
        with anyio.move_on_after(_LAST_WRITE):
            async with self._writing:
                pass
        self._writes.stop()
        told, newest = self._latest_progress.newest()
        return newest if self._written < told else None

    async def _write(self) -> None:
        async with self._writing:
            told, newest = self._latest_progress.newest()
            if told == self._written:
                return
            try:
                await self._requests.update_progress(
                    self._claim, newest.fraction, newest.message, newest.details
                )
            except ClaimLost as error:
                self._lose("progress", error)
            except InvalidInput as error:
                self._drop(told, error, again=False)
            except StoreError as error:
                self._drop(told, error, again=True)
            else:
                self._has_written(told)

    async def _wrote_checkpoint(self, value: Any) -> bool:
        async with self._writing:
            if self._closed:
                raise ClaimLost("the attempt has ended", operation="checkpoint")
            told, newest = self._latest_progress.newest()
            carried = newest if told > self._written else None
            try:
                await self._requests.checkpoint(self._claim, value, progress=carried)
            except ClaimLost as error:
                self._lose("checkpoint", error)
                await breathe()
                raise  # a handler that is shielded must not take it for safe
            except InvalidInput as error:
                if carried is not None:
                    self._drop(told, error, again=False)
                    return False
                raise _refused_checkpoint(error) from error
            except StoreError as error:
                event = CheckpointDelayed(request_id=self._claim.request_id, error=error)
                self._events.emit(event)
                return False
            self._has_written(told)
            return True

    def _lose(self, operation: str, error: ClaimLost) -> None:
        event = WriteFenced(
            request_id=self._claim.request_id,
            operation=operation,
            cancelled=isinstance(error, Cancelled),
            settles=False,
        )
        self._events.emit(event)
        self._on_lost(error)

    def _has_written(self, told: int) -> None:
        event = ProgressWritten(request_id=self._claim.request_id, reports=told - self._written)
        self._written = told
        self._failing = False
        self._events.emit(event)

    def _drop(self, told: int, error: StoreError, *, again: bool) -> None:
        """Tell of the first failure of a row of them; the next write has what this one had."""
        if again:
            self._writes.trigger()
        else:
            self._written = told
        if not (again and self._failing):
            event = ProgressDropped(request_id=self._claim.request_id, error=error)
            self._events.emit(event)
        self._failing = again

    async def _push_newest(self) -> None:
        self._push(self._latest_progress.newest()[1])


def _refused_checkpoint(error: InvalidInput) -> ValidationError:
    if isinstance(error, ItemTooLarge):
        text = f"the request has no room for it: {error.message}"
        return ItemTooLarge("checkpoint", text, size=error.size)
    field = error.field if isinstance(error, ValidationError) else "checkpoint"
    return CheckpointInvalid(field, error.message.removeprefix(f"{field}: "))
