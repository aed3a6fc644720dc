"""The program of a child: calls one handler after the other, for as long as its worker lives."""

from __future__ import annotations

import contextvars
import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, Final

import structlog

from streamer_worker.execution.processes.forks import (
    ForkBoundary,
    ForkedHere,
    reset_signals_in_forked_children,
)
from streamer_worker.execution.processes.protocol import (
    Done,
    Job,
    Message,
    Report,
    ResultInvalid,
    Save,
    Saved,
    Setup,
    Signal,
    pickled_error,
    plain_error,
    receive,
    send,
    trace_of,
)
from streamer_worker.execution.processes.state import ProcessState
from streamer_worker.handlers.context import (
    CheckpointInvalid,
    HandlerCancelled,
    ProgressUpdate,
    SyncContext,
    attempt_fields,
)
from streamer_worker.handlers.latest_progress import LatestProgress
from streamer_worker.monitoring.logs import WorkerLog, configure_logging
from streamer_worker.sanitize import message_of

_TELL_EVERY: Final = 0.1


class PipeChannel:
    """A SyncWorkerChannel over the pipe, for one call. Threads of the handler may use it, too.

    After the end of the call it sends nothing: a thread that the handler has left behind sees
    `cancelled`, and progress and checkpoints raise HandlerCancelled. In a forked child of this
    process they raise ForkedHere.
    """

    def __init__(self, call: int, post: Callable[[Message], None]) -> None:
        self.call = call
        self.draining = False
        self._post = post
        self._pid = os.getpid()
        self._latest_progress = LatestProgress(0.0)
        self._lock = threading.Lock()
        self._posting = threading.Lock()
        self._saving = threading.Lock()
        self._answers: queue.SimpleQueue[Saved | None] = queue.SimpleQueue()
        self._news = threading.Event()
        self._reset = False
        self._sent = 0
        self._saves = 0
        self._cancelled = False
        self._ended = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled or self._ended

    def progress(self, told: ProgressUpdate) -> None:
        self._check("progress")
        with self._lock:
            if not self._latest_progress.report(told):
                return
            self._reset = self._reset or told.reset
        if not self._news.is_set():
            self._news.set()

    def checkpoint(self, value: Any) -> None:
        self._check("checkpoint")
        packed = _packed_checkpoint(value)
        with self._saving:
            self._check("checkpoint")
            self.flush()  # the write has both
            self._save(packed)
            answer = self._answer()
        if answer is None:
            raise HandlerCancelled
        if answer.error is not None:
            raise pickle.loads(answer.error)  # noqa: S301  our own worker
        self._check("checkpoint")

    def _save(self, value: bytes) -> None:
        self._saves += 1
        with self._posting:
            if self._ended:
                raise HandlerCancelled
            self._post(Save(self.call, self._saves, value))

    def _answer(self) -> Saved | None:
        """Wait for the answer to the last checkpoint; None when the call is over first."""
        while True:
            answer = self._answers.get()
            if answer is None or answer.number == self._saves:
                return answer

    def flush(self) -> None:
        """Send what was told since the last time."""
        with self._posting:
            with self._lock:
                told, newest = self._latest_progress.newest()
                reset, self._reset = self._reset, False
            if told > self._sent and not self._ended:
                self._sent = told
                latest = ProgressUpdate(newest.fraction, newest.message, newest.details, reset)
                self._post(Report(self.call, latest))

    def tell_regularly(self) -> None:
        """Send what is new, at most ten times a second, until the call has ended."""
        while True:
            self._news.wait()
            self._news.clear()
            if self._ended:
                return
            self.flush()
            time.sleep(_TELL_EVERY)

    def end(self) -> None:
        """Send what is new, and from now on nothing."""
        self.flush()
        with self._posting:
            self._ended = True
        self._answers.put(None)
        self._news.set()

    def hear(self, message: Message) -> None:
        match message:
            case Signal():
                self.draining = self.draining or message.draining
                if message.cancelled:
                    self._cancelled = True
                    self._answers.put(None)
            case Saved():
                self._answers.put(message)

    def _check(self, operation: str) -> None:
        # First of all: in a forked child another thread's lock is never released.
        if os.getpid() != self._pid:
            raise ForkedHere(f"ctx.{operation}()")
        if self.cancelled:
            raise HandlerCancelled


class Child:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._posting = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Job, PipeChannel]] = queue.SimpleQueue()
        self._channel = PipeChannel(0, self._post)
        self._modules: set[str] = set()
        self._state: ProcessState
        self._log: WorkerLog | None = None

    def run(self) -> None:
        """Work until the worker is gone."""
        setup = receive(self._connection)
        assert isinstance(setup, Setup)  # noqa: S101
        if setup.log is not None:
            self._log = configure_logging(setup.log)
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            job, channel = self._jobs.get()
            # What a handler sets, decimal's context too, ends with its call.
            contextvars.Context().run(self._call, job, channel)

    def _listen(self) -> None:
        while True:
            try:
                message = receive(self._connection)
            except (EOFError, OSError):
                _end_group()
            match message:
                case Job():
                    self._channel = PipeChannel(message.call, self._post)
                    self._jobs.put((message, self._channel))
                case Signal() | Saved() if message.call == self._channel.call:
                    self._channel.hear(message)

    def _call(self, job: Job, channel: PipeChannel) -> None:
        teller = threading.Thread(target=channel.tell_regularly, daemon=True)
        teller.start()
        with structlog.contextvars.bound_contextvars(**job.bound):
            done = self._done(job, channel)
        channel.end()
        teller.join()
        self._post(done)

    def _done(self, job: Job, channel: PipeChannel) -> Done:
        try:
            with ForkBoundary():
                function = self._function(job)
                with self._state.kept():
                    payload = pickle.loads(job.payload)  # noqa: S301  our own worker
                    ctx: SyncContext[Any] = SyncContext(
                        **attempt_fields(job.attempt), channel=channel
                    )
                    result = function(payload, ctx)
        except BaseException as error:  # noqa: BLE001  a handler's sys.exit() is its failure
            trace = trace_of(error)
            plain = plain_error(error, trace)
            return Done(job.call, error=pickled_error(error, trace), plain=plain)
        try:
            with ForkBoundary():
                return Done(job.call, value=pickle.dumps(result))
        except Exception as error:  # noqa: BLE001  it may do anything
            wrong = ResultInvalid(f"the result cannot be pickled: {error}")
            return Done(job.call, error=pickled_error(wrong))

    def _function(self, job: Job) -> Callable[[Any, SyncContext[Any]], Any]:
        """Return the function to call. What its module changes when it is imported is kept."""
        found = getattr(_imported(job.module, self._log), job.name)
        if job.module not in self._modules:
            self._modules.add(job.module)
            self._state = ProcessState()
        function: Callable[[Any, SyncContext[Any]], Any] = getattr(found, "function", found)
        return function

    def _post(self, message: Message) -> None:
        with self._posting:
            try:
                send(self._connection, message)
            except OSError:
                _end_group()


def _packed_checkpoint(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        text = f"cannot be pickled: {message_of(error)}"
        raise CheckpointInvalid("checkpoint", text) from error


def _end_group() -> None:
    """End this process and those that handlers have started in it: the worker is gone, and
    their requests may run elsewhere.
    """
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _imported(name: str, log: WorkerLog | None) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    finally:
        if log is not None:
            log.take_over()  # plugins configure logging when they are imported


def _ignored(_number: int, _frame: object) -> None:
    """Supervisors signal the whole group; what is to be done with it decides the worker."""


def main(descriptor: int) -> None:
    """Serve the worker at the other end of the pipe of this descriptor, until it is gone."""
    reset_signals_in_forked_children()
    # Not SIG_IGN, which the handler's own subprocesses would inherit.
    signal.signal(signal.SIGINT, _ignored)
    signal.signal(signal.SIGTERM, _ignored)
    os.set_inheritable(descriptor, False)  # noqa: FBT003
    connection = Connection(descriptor)
    os.register_at_fork(after_in_child=connection.close)
    Child(connection).run()
