"""The program of a child: calls one handler after the other, for as long as its worker lives."""

from __future__ import annotations

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

from streamer_worker.handlers.context import HandlerCancelled, SyncContext, Told, facts_of
from streamer_worker.logs import WorkerLog, configure_logging
from streamer_worker.processes.wire import (
    Done,
    Job,
    Message,
    Save,
    Saved,
    Setup,
    Signal,
    pickled_error,
    receive,
    send,
    trace_of,
)
from streamer_worker.standing import Standing

_TELL_EVERY: Final = 0.1


class PipeLink:
    """A SyncLink over the pipe, for one call. Threads of the handler may use it, too."""

    def __init__(self, post: Callable[[Message], None]) -> None:
        self.draining = False
        self.cancelled = False
        self._post = post
        self._standing = Standing(0.0)
        self._lock = threading.Lock()
        self._posting = threading.Lock()
        self._saving = threading.Lock()
        self._answers: queue.SimpleQueue[Saved | None] = queue.SimpleQueue()
        self._news = threading.Event()
        self._reset = False
        self._sent = 0
        self._ended = False

    def progress(self, told: Told) -> None:
        self._check()
        with self._lock:
            if not self._standing.tell(told):
                return
            self._reset = self._reset or told.reset
        if not self._news.is_set():
            self._news.set()

    def checkpoint(self, value: Any) -> None:
        self._check()
        with self._saving:
            self.flush()  # the write has both
            self._post(Save(pickle.dumps(value)))
            answer = self._answers.get()
        if answer is None:
            raise HandlerCancelled
        if answer.error is not None:
            raise pickle.loads(answer.error)  # noqa: S301  our own worker
        self._check()

    def flush(self) -> None:
        """Send what was told since the last time."""
        with self._posting:
            with self._lock:
                told, newest = self._standing.newest()
                reset, self._reset = self._reset, False
            if told > self._sent:
                self._sent = told
                self._post(Told(newest.fraction, newest.message, newest.details, reset))

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
        self.flush()
        self._ended = True
        self._news.set()

    def hear(self, message: Message) -> None:
        match message:
            case Signal():
                self.draining = self.draining or message.draining
                if message.cancelled:
                    self.cancelled = True
                    self._answers.put(None)
            case Saved():
                self._answers.put(message)

    def _check(self) -> None:
        if self.cancelled:
            raise HandlerCancelled


class Child:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._posting = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Job, PipeLink]] = queue.SimpleQueue()
        self._link = PipeLink(self._post)
        self._log: WorkerLog | None = None

    def run(self) -> None:
        """Work until the worker is gone."""
        setup = receive(self._connection)
        assert isinstance(setup, Setup)  # noqa: S101
        sys.path[:] = setup.path
        if setup.log is not None:
            self._log = configure_logging(setup.log)
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            self._call(*self._jobs.get())

    def _listen(self) -> None:
        while True:
            try:
                message = receive(self._connection)
            except (EOFError, OSError):
                os._exit(0)  # whatever the handler does: nobody waits for it
            if isinstance(message, Job):
                self._link = PipeLink(self._post)
                self._jobs.put((message, self._link))
            else:
                self._link.hear(message)

    def _call(self, job: Job, link: PipeLink) -> None:
        teller = threading.Thread(target=link.tell_regularly, daemon=True)
        teller.start()
        with structlog.contextvars.bound_contextvars(**job.bound):
            done = _done(job, link, self._log)
        link.end()
        teller.join()
        self._post(done)

    def _post(self, message: Message) -> None:
        with self._posting:
            try:
                send(self._connection, message)
            except OSError:
                os._exit(0)


def _done(job: Job, link: PipeLink, log: WorkerLog | None) -> Done:
    try:
        found = getattr(_imported(job.module, log), job.name)
        function = getattr(found, "function", found)
        payload = pickle.loads(job.payload)  # noqa: S301  our own worker
        ctx: SyncContext[Any] = SyncContext(**facts_of(job.facts), link=link)
        result = function(payload, ctx)
    except BaseException as error:  # noqa: BLE001  a handler's sys.exit() is its failure
        return Done(error=pickled_error(error, trace_of(error)))
    try:
        return Done(value=pickle.dumps(result))
    except Exception as error:  # noqa: BLE001  it may do anything
        return Done(error=pickled_error(TypeError(f"the result cannot be pickled: {error}")))


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


def main() -> None:
    # Not SIG_IGN, which the handler's own subprocesses would inherit.
    signal.signal(signal.SIGINT, _ignored)
    signal.signal(signal.SIGTERM, _ignored)
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)  # noqa: FBT003
    Child(Connection(descriptor)).run()


if __name__ == "__main__":
    main()
