"""The program of a child process: runs one handler after the other until its worker ends.

Threads of a child: the main thread runs the handlers. One thread receives messages. During each
call one more thread sends progress. Handlers may start further threads.
"""

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
    Send,
    Setup,
    Signal,
    pickled_error,
    plain_error,
    receive,
    send,
    trace_of,
)
from streamer_worker.execution.processes.state import ProcessState
from streamer_worker.execution.tracebacks import drop_tracebacks
from streamer_worker.handlers.client_message import ClientMessage
from streamer_worker.handlers.context import (
    CheckpointInvalid,
    HandlerCancelled,
    SyncContext,
    attempt_fields,
)
from streamer_worker.handlers.latest_progress import LatestProgress
from streamer_worker.handlers.worker_channel import ProgressUpdate
from streamer_worker.monitoring.worker_log import WorkerLog, configure_logging
from streamer_worker.sanitize import message_of

_REPORT_INTERVAL: Final = 0.1
# Messages to clients that travel together. Until then they wait for the next report.
_MESSAGES_AT_ONCE: Final = 100


class PipeChannel:
    """A SyncWorkerChannel over the pipe, for one call. Any thread of this process may use it.

    After the end of the call it sends nothing. A thread that the handler has left behind then
    sees `cancelled`, and its progress, checkpoints and messages raise HandlerCancelled. In a forked
    child of this process they raise ForkedHere.

    `receive` is called by the receiving thread, `report_regularly` runs in the thread that sends
    progress, and `end` is called by the main thread. Only `receive` writes `draining` and
    `_cancelled`, and only `end` writes `_ended`; any thread reads them.
    """

    def __init__(self, call: int, post: Callable[[Message], None]) -> None:
        self.call = call
        self.draining = False
        self._post = post
        self._pid = os.getpid()
        self._latest_progress = LatestProgress(0.0)
        self._messages: list[ClientMessage] = []
        # Held while the newest progress and the messages are read or changed.
        self._unsent_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._checkpoint_lock = threading.Lock()
        self._answers: queue.SimpleQueue[Saved | None] = queue.SimpleQueue()
        self._changed = threading.Event()
        self._reset = False
        self._sent_updates = 0
        self._checkpoints = 0
        self._cancelled = False
        self._ended = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled or self._ended

    def progress(self, update: ProgressUpdate) -> None:
        self._check("progress")
        with self._unsent_lock:
            if not self._latest_progress.report(update):
                return
            self._reset = self._reset or update.reset
        if not self._changed.is_set():
            self._changed.set()

    def checkpoint(self, value: Any) -> None:
        self._check("checkpoint")
        pickled = _pickled_checkpoint(value)
        with self._checkpoint_lock:
            self._check("checkpoint")
            self.flush()  # the worker writes both at once
            self._send_checkpoint(pickled)
            answer = self._wait_saved()
        if answer is None:
            raise HandlerCancelled
        if answer.error is not None:
            raise pickle.loads(answer.error)  # noqa: S301  our own worker
        self._check("checkpoint")

    def send(self, message: ClientMessage) -> None:
        self._check(message.method)
        with self._unsent_lock:
            self._messages.append(message)
            many = len(self._messages) >= _MESSAGES_AT_ONCE
        if many:
            self.flush()
        elif not self._changed.is_set():
            self._changed.set()

    def _send_checkpoint(self, value: bytes) -> None:
        self._checkpoints += 1
        with self._send_lock:
            if self._ended:
                raise HandlerCancelled
            self._post(Save(self.call, self._checkpoints, value))

    def _wait_saved(self) -> Saved | None:
        """Wait for the answer to the last checkpoint. Return None if the handler is cancelled, or
        the call ends, before it comes.
        """
        while True:
            answer = self._answers.get()
            if answer is None or answer.number == self._checkpoints:
                return answer

    def flush(self) -> None:
        """Send the newest progress, unless it was sent before, and the messages. Sends nothing if
        the call has ended.
        """
        with self._send_lock:
            with self._unsent_lock:
                updates, newest = self._latest_progress.newest()
                reset, self._reset = self._reset, False
                messages, self._messages = tuple(self._messages), []
            if self._ended:
                return
            if updates > self._sent_updates:
                self._sent_updates = updates
                latest = ProgressUpdate(newest.fraction, newest.message, newest.details, reset)
                self._post(Report(self.call, latest))
            if messages:
                self._post(Send(self.call, messages))

    def report_regularly(self) -> None:
        """Send new progress at most every _REPORT_INTERVAL seconds, until the call has ended."""
        while True:
            self._changed.wait()
            self._changed.clear()
            if self._ended:
                return
            self.flush()
            time.sleep(_REPORT_INTERVAL)

    def end(self) -> None:
        """Send new progress, and nothing after it."""
        self.flush()
        with self._send_lock:
            self._ended = True
        self._answers.put(None)
        self._changed.set()

    def receive(self, message: Message) -> None:
        """Accept a message of the worker for this call."""
        match message:
            case Signal():
                self.draining = self.draining or message.draining
                if message.cancelled:
                    self._cancelled = True
                    self._answers.put(None)
            case Saved():
                self._answers.put(message)

    def _check(self, operation: str) -> None:
        # Checked before any lock: in a forked child another thread's lock is never released.
        if os.getpid() != self._pid:
            raise ForkedHere(f"ctx.{operation}()")
        if self.cancelled:
            raise HandlerCancelled


class JobRunner:
    """This process: receives jobs over the pipe and runs them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._send_lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Job, PipeChannel]] = queue.SimpleQueue()
        self._channel = PipeChannel(0, self._post)
        self._modules: set[str] = set()
        self._state: ProcessState
        self._log: WorkerLog | None = None

    def run(self) -> None:
        """Run jobs until the worker is gone. Never returns: the process ends. Main thread only."""
        setup = receive(self._connection)
        assert isinstance(setup, Setup)  # noqa: S101
        if setup.log is not None:
            self._log = configure_logging(setup.log)
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            job, channel = self._jobs.get()
            # Context variables that a handler sets, decimal's context too, end with its call.
            contextvars.Context().run(self._call, job, channel)
            del job, channel  # freed while the process is idle

    def _listen(self) -> None:
        while True:
            try:
                message = receive(self._connection)
            except (EOFError, OSError):
                _kill_process_group()
            match message:
                case Job():
                    self._channel = PipeChannel(message.call, self._post)
                    self._jobs.put((message, self._channel))
                case Signal() | Saved() if message.call == self._channel.call:
                    self._channel.receive(message)

    def _call(self, job: Job, channel: PipeChannel) -> None:
        reporter = threading.Thread(target=channel.report_regularly, daemon=True)
        reporter.start()
        with structlog.contextvars.bound_contextvars(**job.bound):
            done = self._run_handler(job, channel)
        channel.end()
        reporter.join()
        self._post(done)

    def _run_handler(self, job: Job, channel: PipeChannel) -> Done:
        try:
            with ForkBoundary():
                function = self._function(job)
                with self._state.restored_after():
                    payload = pickle.loads(job.payload)  # noqa: S301  our own worker
                    ctx: SyncContext[Any] = SyncContext(
                        **attempt_fields(job.attempt), channel=channel
                    )
                    result = function(payload, ctx)
        except BaseException as error:  # noqa: BLE001  a handler's sys.exit() is its failure
            trace = trace_of(error)
            plain = plain_error(error, trace)
            done = Done(job.call, error=pickled_error(error, trace), plain=plain)
            drop_tracebacks(error)
            return done
        try:
            with ForkBoundary():
                return Done(job.call, value=pickle.dumps(result))
        except Exception as error:  # noqa: BLE001  a result may do anything
            invalid = ResultInvalid(f"the result cannot be pickled: {error}")
            return Done(job.call, error=pickled_error(invalid))

    def _function(self, job: Job) -> Callable[[Any, SyncContext[Any]], Any]:
        """Return the function to call. State that its module changes at import is not restored."""
        definition = getattr(_import(job.module, self._log), job.name)
        if job.module not in self._modules:
            self._modules.add(job.module)
            self._state = ProcessState()
        function: Callable[[Any, SyncContext[Any]], Any] = getattr(
            definition, "function", definition
        )
        return function

    def _post(self, message: Message) -> None:
        with self._send_lock:
            try:
                send(self._connection, message)
            except OSError:
                _kill_process_group()


def _pickled_checkpoint(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        text = f"cannot be pickled: {message_of(error)}"
        raise CheckpointInvalid("checkpoint", text) from error


def _kill_process_group() -> None:
    """End this process and those that its handlers have started. The worker is gone, and another
    worker may already run their requests.
    """
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _import(name: str, log: WorkerLog | None) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    finally:
        if log is not None:
            log.take_over()  # plugins may configure logging at import


def _ignore(_number: int, _frame: object) -> None:
    """Ignore signals that a supervisor sends to the whole group: the worker decides when we end."""


def main(descriptor: int) -> None:
    """Run jobs of the worker at the other end of the pipe `descriptor`, until it is gone."""
    reset_signals_in_forked_children()
    # Not SIG_IGN, which the handler's own subprocesses would inherit.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _ignore)
    os.set_inheritable(descriptor, False)  # noqa: FBT003
    connection = Connection(descriptor)
    os.register_at_fork(after_in_child=connection.close)
    JobRunner(connection).run()
