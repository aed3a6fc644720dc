"""The worker's side of its child processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import count
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Final, Self

import anyio
import structlog
from anyio import AsyncContextManagerMixin
from anyio.abc import TaskGroup
from anyio.lowlevel import current_token

from streamer_store.errors import leaf_exceptions
from streamer_worker.concurrency.deadlines import ended_within
from streamer_worker.events import ChildEnded, ChildStarted, Events
from streamer_worker.execution.processes.child_process import ChildProcess
from streamer_worker.execution.processes.protocol import (
    Done,
    Job,
    Report,
    Save,
    Saved,
    Send,
    Setup,
    Signal,
    WorkerCrashed,
    pickled_error,
)
from streamer_worker.handlers.context import AttemptInfo, CheckpointInvalid
from streamer_worker.handlers.worker_channel import WorkerChannel
from streamer_worker.monitoring.log_text import loggable
from streamer_worker.sanitize import message_of
from streamer_worker.settings import LogSettings

# The child gets the worker's import path, which a zip application extends in its process. It is
# set before anything is imported, and with -P Python adds no directory to it.
_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv[2:]; del sys.argv[2:]; "
    "from streamer_worker.execution.processes.child import main; main(int(sys.argv.pop()))"
)
_DRAIN_CHECK_INTERVAL: Final = 0.25


class Processes(AsyncContextManagerMixin):
    """Runs functions in at most `limit` processes, which are reused. Event loop's thread only.

    An async context manager: its end kills all processes. `log` is how they log; None: not at
    all. `grace` is how long a cancelled call may continue, in seconds.
    """

    def __init__(
        self, *, limit: int, log: LogSettings | None, events: Events, grace: float
    ) -> None:
        self._limiter = anyio.CapacityLimiter(limit)
        self._log = log
        self._events = events
        self._grace = grace
        self._children: list[ChildProcess] = []
        self._calls = count(1)
        self._directory = _current_directory()
        self._tasks: TaskGroup

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        _leave_to_parent_in_forks(weakref.ref(self))
        async with anyio.create_task_group() as self._tasks:
            try:
                yield self
            finally:
                for child in list(self._children):
                    await child.kill()
                self._tasks.cancel_scope.cancel()

    async def run(
        self,
        function: Callable[..., Any],
        payload: Any,
        attempt: AttemptInfo,
        channel: WorkerChannel,
    ) -> Any:
        """Call `function(payload, ctx)` in a process and return its result.

        Raises what the function raises, with its traceback as a note; WorkerCrashed when the
        process ends; ResultInvalid and TypeError when the result or the payload cannot be
        pickled. Cancellation sets `ctx.cancelled`. A function that runs longer than `grace`
        after that is killed.
        """
        try:
            pickled = pickle.dumps(payload)
        except Exception as error:
            raise TypeError(f"the payload cannot be pickled: {error}") from error
        job = Job(
            call=next(self._calls),
            module=function.__module__,
            name=function.__qualname__,
            payload=pickled,
            attempt=attempt,
            bound=loggable(structlog.contextvars.get_contextvars()),
        )
        async with self._limiter, self._child(job) as child:
            done = await self._call(child, job.call, channel)
        return done.outcome()

    @asynccontextmanager
    async def _child(self, job: Job) -> AsyncIterator[ChildProcess]:
        """Give a child to which the job was sent. It is killed after an error, else reused."""
        child = await self._reuse_child(job) or await self._new_child(job)
        try:
            yield child
        except BaseException:
            await self._end(child)
            raise
        child.busy = False

    async def _reuse_child(self, job: Job) -> ChildProcess | None:
        """Send the job to an idle child and return it; None if there is none. Children that have
        ended meanwhile are removed.
        """
        while (
            child := next((known for known in self._children if not known.busy), None)
        ) is not None:
            child.busy = True
            try:
                await child.send(job)
            except WorkerCrashed:
                await self._end(child)
            except BaseException:
                await self._end(child)
                raise
            else:
                return child
        return None

    async def _new_child(self, job: Job) -> ChildProcess:
        child = await self._start()
        try:
            await child.send(Setup(log=self._log))
            await child.send(job)
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _end(self, child: ChildProcess) -> None:
        self._children.remove(child)
        await child.kill()

    async def _call(self, child: ChildProcess, call: int, channel: WorkerChannel) -> Done:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_send_draining, child, call, channel)
                done = await self._serve_call(child, call, channel)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise leaf_exceptions(group)[0] from None
        except anyio.get_cancelled_exc_class():
            late = await self._cancel(child, call)
            if late is None or late.error is not None:
                raise
            return late
        return done

    async def _cancel(self, child: ChildProcess, call: int) -> Done | None:
        """Notify the handler, and return how it ended. Returns None after `grace` seconds."""
        ended: list[Done | None] = []

        async def wait() -> None:
            ended.append(await self._receive_done(child, call))

        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self._grace) as sending:
                await child.send(Signal(call, cancelled=True))
            if not sending.cancelled_caught:
                await ended_within(self._grace, wait)
        return ended[0] if ended else None

    async def _serve_call(self, child: ChildProcess, call: int, channel: WorkerChannel) -> Done:
        async for message in child.inbox:
            match message:
                case Done(call=own) if own == call:
                    return message
                case Report(call=own, update=update) if own == call:
                    await channel.progress(update)
                case Send(call=own, messages=messages) if own == call:
                    for sent in messages:
                        channel.send(sent)
                case Save(call=own) if own == call:
                    await child.send(await _save(message, channel))
        self._events.emit(ChildEnded(pid=child.process.pid, reason=child.ended))
        raise WorkerCrashed(child.ended)

    async def _receive_done(self, child: ChildProcess, call: int) -> Done | None:
        async for message in child.inbox:
            if isinstance(message, Done) and message.call == call:
                return message
        return None

    async def _start(self) -> ChildProcess:
        path = import_path(sys.path, self._directory)
        ours, theirs = Pipe()
        try:
            process = await anyio.open_process(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), *path],
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        child = ChildProcess(process, ours)
        self._children.append(child)
        threading.Thread(target=child.listen, args=(current_token(),), daemon=True).start()
        self._tasks.start_soon(child.watch)
        self._events.emit(ChildStarted(pid=process.pid))
        return child


def _current_directory() -> Path | None:
    with suppress(OSError):
        return Path.cwd()
    return None


def import_path(path: Iterable[Any], directory: Path | None) -> list[str]:
    """Return the import path for a child.

    Relative entries are relative to `directory`, in which the worker was started; None: it was
    removed, and they are left out. An empty entry means that directory. It is put last, so that a
    `queue.py` in it does not hide Python's own.
    """
    entries = [entry for entry in path if isinstance(entry, str)]
    if directory is None:
        return [entry for entry in entries if Path(entry).is_absolute()]
    absolute = [str(directory / entry) for entry in entries if entry]
    return [*absolute, str(directory)] if "" in entries else absolute


async def _save(message: Save, channel: WorkerChannel) -> Saved:
    try:
        await channel.checkpoint(_unpickled_checkpoint(message.value))
    except Exception as error:  # noqa: BLE001  raised in the handler
        return Saved(message.call, message.number, error=pickled_error(error))
    return Saved(message.call, message.number)


def _unpickled_checkpoint(value: bytes) -> Any:
    try:
        return pickle.loads(value)  # noqa: S301  our own child
    except Exception as error:
        text = f"cannot be read outside of its process: {message_of(error)}"
        raise CheckpointInvalid("checkpoint", text) from error


async def _send_draining(child: ChildProcess, call: int, channel: WorkerChannel) -> None:
    while not channel.draining:  # noqa: ASYNC110  a channel has no event for it
        await anyio.sleep(_DRAIN_CHECK_INTERVAL)
    await child.send(Signal(call, draining=True))


def _leave_to_parent_in_forks(reference: Callable[[], Processes | None]) -> None:
    def leave() -> None:
        processes = reference()
        if processes is not None:
            for child in processes._children:  # noqa: SLF001
                child.leave_to_parent()

    os.register_at_fork(after_in_child=leave)
