"""The children of a worker, from its side."""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self

import anyio
import structlog
from anyio import AsyncContextManagerMixin, from_thread
from anyio.abc import Process, TaskGroup
from anyio.lowlevel import EventLoopToken, current_token

from streamer_worker.errors import leaf_exceptions
from streamer_worker.events import ChildEnded, ChildStarted, Events
from streamer_worker.execution.processes.protocol import (
    Done,
    Job,
    Message,
    Report,
    Save,
    Saved,
    Setup,
    Signal,
    WorkerCrashed,
    pickled_error,
    receive,
    send,
)
from streamer_worker.handlers.context import AttemptInfo, CheckpointInvalid, WorkerChannel
from streamer_worker.monitoring.log_text import loggable
from streamer_worker.sanitize import message_of
from streamer_worker.settings import LogSettings

# The path is the worker's own: a zip application extends it in its process. Nothing is imported
# before it is set, and with -P Python adds no directory to it.
_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv[2:]; del sys.argv[2:]; "
    "from streamer_worker.execution.processes.child import main; main(int(sys.argv.pop()))"
)
_LOOK_EVERY: Final = 0.25
_ENDS_WITHIN: Final = 5.0
_SENDERS: Final = 100


class Child:
    """One process, which runs one call at a time. What it sends arrives in `inbox`; the end of
    the stream is its own end.
    """

    def __init__(self, process: Process, connection: Connection) -> None:
        self.process = process
        self.busy = True
        self._connection = connection
        self._send, self.inbox = anyio.create_memory_object_stream[Message](math.inf)
        self._senders = anyio.CapacityLimiter(_SENDERS)
        self._sending = threading.Lock()

    def listen(self, token: EventLoopToken) -> None:
        """Pass on what comes. In a thread: a process that is stopped may leave a message half."""
        with suppress(EOFError, OSError, anyio.ClosedResourceError, RuntimeError):
            while True:  # until it is gone, or our loop is
                message = receive(self._connection)
                from_thread.run_sync(self._send.send_nowait, message, token=token)
        self._connection.close()

    async def watch(self) -> None:
        """Wait for its end, and tell."""
        await self.process.wait()
        self._send.close()

    async def send(self, message: Message) -> None:
        """Send, however long it does not read. Raises WorkerCrashed when it is gone."""
        call = partial(self._send_whole, message)
        try:
            await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._senders)
        except OSError as error:
            with anyio.move_on_after(_ENDS_WITHIN):
                await self.process.wait()
            raise WorkerCrashed(self.ended) from error

    def _send_whole(self, message: Message) -> None:
        with self._sending:  # nothing comes between, also when nobody awaits it any more
            send(self._connection, message)

    @property
    def ended(self) -> str:
        code = self.process.returncode
        if code is None:
            return "the process of the handler is gone"
        if code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                return f"the process of the handler was ended by signal {-code} ({name})"
        return f"the process of the handler ended with exit code {code}"

    def leave_to_parent(self) -> None:
        """Close the pipe in a forked child of the worker. Its copy would keep the pipe open when
        the worker is gone, and the process would not end.
        """
        self._connection.close()

    async def kill(self) -> None:
        """End it, and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with anyio.move_on_after(_ENDS_WITHIN, shield=True):
            await self.process.wait()
        self._send.close()
        self.inbox.close()


class Processes(AsyncContextManagerMixin):
    """Runs functions in at most `limit` processes, kept for the next call. A context: at its end
    none is left. `grace` is how long a cancelled call may go on, in seconds.
    """

    def __init__(
        self, *, limit: int, log: LogSettings | None, events: Events, grace: float
    ) -> None:
        self._limiter = anyio.CapacityLimiter(limit)
        self._log = log
        self._events = events
        self._grace = grace
        self._children: list[Child] = []
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

        Raises what it raises, its traceback as a note, and WorkerCrashed when the process dies.
        When it is cancelled the handler is told, and its process ended if it goes on for longer
        than `grace`.
        """
        try:
            packed = pickle.dumps(payload)
        except Exception as error:
            raise TypeError(f"the payload cannot be pickled: {error}") from error
        job = Job(
            call=next(self._calls),
            module=function.__module__,
            name=function.__qualname__,
            payload=packed,
            attempt=attempt,
            bound=loggable(structlog.contextvars.get_contextvars()),
        )
        async with self._limiter, self._child(job) as child:
            done = await self._call(child, job.call, channel)
        return done.outcome()

    @asynccontextmanager
    async def _child(self, job: Job) -> AsyncIterator[Child]:
        """Give a child that has the job; it is kept unless something is wrong."""
        child = await self._idle(job) or await self._fresh(job)
        try:
            yield child
        except BaseException:
            await self._end(child)
            raise
        child.busy = False

    async def _idle(self, job: Job) -> Child | None:
        """Give the job to a child that is idle; those that have died meanwhile are removed."""
        while (child := next((each for each in self._children if not each.busy), None)) is not None:
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

    async def _fresh(self, job: Job) -> Child:
        child = await self._start()
        try:
            await child.send(Setup(log=self._log))
            await child.send(job)
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _end(self, child: Child) -> None:
        self._children.remove(child)
        await child.kill()

    async def _call(self, child: Child, call: int, channel: WorkerChannel) -> Done:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_tell_draining, child, call, channel)
                done = await self._converse(child, call, channel)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise leaf_exceptions(group)[0] from None
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(self._grace, shield=True):
                await child.send(Signal(call, cancelled=True))
                await self._await_done(child, call)
            raise
        return done

    async def _converse(self, child: Child, call: int, channel: WorkerChannel) -> Done:
        async for message in child.inbox:
            match message:
                case Done(call=own) if own == call:
                    return message
                case Report(call=own, told=told) if own == call:
                    await channel.progress(told)
                case Save(call=own) if own == call:
                    await child.send(await _saved(message, channel))
        self._events.emit(ChildEnded(pid=child.process.pid, how=child.ended))
        raise WorkerCrashed(child.ended)

    async def _await_done(self, child: Child, call: int) -> None:
        async for message in child.inbox:
            if isinstance(message, Done) and message.call == call:
                return

    async def _start(self) -> Child:
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
        child = Child(process, ours)
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
    """Return the path for a child. What is relative is meant from `directory`, where the worker
    was started: a handler may have gone elsewhere. An empty entry stands for that directory and
    goes last, so that a `queue.py` in it does not replace Python's own.
    """
    entries = [entry for entry in path if isinstance(entry, str)]
    if directory is None:
        return [entry for entry in entries if Path(entry).is_absolute()]
    found = [str(directory / entry) for entry in entries if entry]
    return [*found, str(directory)] if "" in entries else found


async def _saved(asked: Save, channel: WorkerChannel) -> Saved:
    try:
        await channel.checkpoint(_checkpoint(asked.value))
    except Exception as error:  # noqa: BLE001  it is the handler's
        return Saved(asked.call, asked.number, error=pickled_error(error))
    return Saved(asked.call, asked.number)


def _checkpoint(value: bytes) -> Any:
    try:
        return pickle.loads(value)  # noqa: S301  our own child
    except Exception as error:
        text = f"cannot be read outside of its process: {message_of(error)}"
        raise CheckpointInvalid("checkpoint", text) from error


async def _tell_draining(child: Child, call: int, channel: WorkerChannel) -> None:
    while not channel.draining:  # noqa: ASYNC110  a channel is asked, and tells nothing by itself
        await anyio.sleep(_LOOK_EVERY)
    await child.send(Signal(call, draining=True))


def _leave_to_parent_in_forks(reference: Callable[[], Processes | None]) -> None:
    def leave() -> None:
        processes = reference()
        if processes is not None:
            for child in processes._children:  # noqa: SLF001
                child.leave_to_parent()

    os.register_at_fork(after_in_child=leave)
