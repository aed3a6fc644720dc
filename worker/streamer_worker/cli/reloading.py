"""Restarts a worker when its source files change, for development."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from streamer_store import SystemClock
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.output import print_styled
from streamer_worker.cli.source_files import SourceFiles
from streamer_worker.concurrency.parent_death import die_with

_CHECK_INTERVAL: Final = 0.5
# While a worker ends, and so that reading many files takes a tenth of the time at most.
_ENDING_INTERVAL: Final = 0.05
_IDLE_FACTOR: Final = 10
# Seconds after which a worker that was asked to end gets the next signal.
_HANDLERS_WITHIN: Final = 3.0
_CLEANUP_WITHIN: Final = 10.0
_STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_KILLED_BY: Final = 128  # as in shells


def restart_on_change(files: SourceFiles) -> None:
    """Return in a forked child, which is the worker. Another follows after each change of a file.

    The process itself never returns: it raises SystemExit with the exit code of the worker that
    was running when a signal came. A worker that has failed is not started again before a file
    changes. If this process is killed, the kernel kills the worker. Call it before there are
    threads, and before handlers are imported.
    """
    stop_signals = _STOP_SIGNALS
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup(1)
        stop_signals -= {signal.SIGHUP}
    waited_for = {*stop_signals, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an ignored SIGCHLD is not delivered
    # Two versions of a file may have the same size and second, by which Python finds bytecode.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    supervisor = os.getpid()
    _report(f"watching {counted(files.count, 'Python file')}; a change restarts the worker")
    try:
        _Supervisor(files, waited_for).run()
    except _InWorker:
        die_with(supervisor)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _InWorker(Exception):
    """Raised in a forked child, so that it leaves the supervisor's frames."""


class _Supervisor:
    """Starts one worker at a time. A signal ends it, a change of a file replaces it."""

    def __init__(self, files: SourceFiles, waited_for: set[signal.Signals]) -> None:
        self._files = files
        self._waited_for = waited_for
        self._clock = SystemClock()
        self._worker: int | None = None
        self._stopping = False
        self._ending: Iterator[tuple[float, signal.Signals]] | None = None
        self._next_signal: tuple[float, signal.Signals] | None = None
        self._next_check = 0.0

    def run(self) -> None:
        """Supervise until a signal. Raises SystemExit then, and _InWorker in each worker."""
        self._start()
        while True:
            interval = _CHECK_INTERVAL if self._ending is None else _ENDING_INTERVAL
            received = signal.sigtimedwait(self._waited_for, interval)
            if received is not None and received.si_signo in _STOP_SIGNALS:
                self._stop()
            self._reap()
            if self._ending is not None:
                self._send_next()
            else:
                self._check_files()

    def _start(self) -> None:
        self._ending = self._next_signal = None
        self._files.remember()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        worker = os.fork()
        if worker == 0:
            raise _InWorker
        self._worker = worker

    def _stop(self) -> None:
        """End the worker and this process. A second signal hurries the worker, too."""
        self._stopping = True
        if self._worker is None:
            raise SystemExit(0)
        self._end_worker()

    def _end_worker(self) -> None:
        if self._ending is None:
            self._ending = self._signals()
            self._next_signal = next(self._ending)
        elif self._next_signal is not None:
            self._next_signal = (self._clock.steady(), self._next_signal[1])
        self._send_next()

    def _signals(self) -> Iterator[tuple[float, signal.Signals]]:
        """Yield the signals that end a worker, and when each is sent.

        1. At once: handlers may finish.
        2. After 3 s: handlers are cancelled, and their requests released.
        3. After 10 s more: the worker hangs.
        """
        now = self._clock.steady()
        yield now, signal.SIGTERM
        yield now + _HANDLERS_WITHIN, signal.SIGTERM
        yield now + _HANDLERS_WITHIN + _CLEANUP_WITHIN, signal.SIGKILL

    def _send_next(self) -> None:
        if self._next_signal is None or self._ending is None or self._worker is None:
            return
        time, number = self._next_signal
        if self._clock.steady() >= time:
            os.kill(self._worker, number)
            self._next_signal = next(self._ending, None)

    def _reap(self) -> None:
        if self._worker is None:
            return
        ended, status = os.waitpid(self._worker, os.WNOHANG)
        if not ended:
            return
        self._worker = None
        code = os.waitstatus_to_exitcode(status)
        if self._stopping or (code == 0 and self._ending is None):
            raise SystemExit(code if code >= 0 else _KILLED_BY - code)
        if self._ending is not None:
            self._start()
            return
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        _report(f"the worker ended with {how}; it starts again when a file changes", "yellow")

    def _check_files(self) -> None:
        began = self._clock.steady()
        if began < self._next_check:
            return
        path = self._files.changed()
        self._next_check = began + _IDLE_FACTOR * (self._clock.steady() - began)
        if path is None:
            return
        _report(f"{_relative(path)} has changed, restarting the worker")
        if self._worker is None:
            self._start()
        else:
            self._end_worker()


def _relative(path: str) -> str:
    whole = Path(path).absolute()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else path


def _report(text: str, style: str = "cyan") -> None:
    print_styled(("reload: ", style), (text, ""), err=True)
