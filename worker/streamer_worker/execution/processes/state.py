"""What a handler may change of its whole process, given back to the next one."""

from __future__ import annotations

import locale
import os
import random
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

_OUTPUTS: Final = {"stdout": 1, "stderr": 2}
_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class ProcessState:
    """The state of this process as it was when this was made. Main thread only."""

    def __init__(self) -> None:
        self._directory = _open_directory()
        self._umask = _umask()
        self._environment = dict(os.environ)
        self._locale = locale.setlocale(locale.LC_ALL)
        self._path = list(sys.path)
        self._stdin = sys.stdin
        self._outputs = {name: _Output(name, number) for name, number in _OUTPUTS.items()}
        self._recursion = sys.getrecursionlimit()
        self._socket_timeout = socket.getdefaulttimeout()
        self._filters = list(warnings.filters)
        self._show_warning = warnings.showwarning
        self._signals = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Restore it after the block. Random's generator has a new seed then."""
        try:
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        self._restore_signals()
        self._restore_environment()
        # What was removed meanwhile cannot be given back; what fails must not keep the rest.
        with suppress(OSError):
            if self._directory is not None:
                os.fchdir(self._directory)
        os.umask(self._umask)
        with suppress(locale.Error):
            if locale.setlocale(locale.LC_ALL) != self._locale:
                locale.setlocale(locale.LC_ALL, self._locale)
        sys.path[:] = self._path
        sys.stdin = self._stdin
        for output in self._outputs.values():
            output.restore()
        if sys.getrecursionlimit() != self._recursion:
            sys.setrecursionlimit(self._recursion)
        socket.setdefaulttimeout(self._socket_timeout)
        self._restore_warnings()
        random.seed()

    def _restore_signals(self) -> None:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        for number, action in self._signals.items():
            if action is not None and signal.getsignal(number) not in {action, None}:
                signal.signal(number, action)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _restore_warnings(self) -> None:
        # Only what has changed: a warning that is shown once would be shown after each call.
        warnings.showwarning = self._show_warning
        if list(warnings.filters) != self._filters:
            warnings.resetwarnings()  # Python learns so that the list is another
            warnings.filters[:] = self._filters  # type: ignore[index]

    def _restore_environment(self) -> None:
        for name in [name for name in os.environ if name not in self._environment]:
            del os.environ[name]
        for name, value in self._environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        time.tzset()  # TZ is read when it is asked to


class _Output:
    """A standard stream and its descriptor, as they were when this was made."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._number = number
        self._stream: TextIO | None = getattr(sys, name)
        self._kept: int | None = None
        with suppress(OSError):
            self._kept = os.dup(number)

    def restore(self) -> None:
        """Restore both. A stream that a handler has closed is opened again."""
        if self._kept is not None and not _same(self._kept, self._number):
            os.dup2(self._kept, self._number)
        stream = self._stream
        if stream is not None and stream.closed:
            self._stream = open(  # noqa: SIM115  it stays open
                self._number, "w", encoding=stream.encoding, errors=stream.errors, closefd=False
            )
            setattr(sys, f"__{self._name}__", self._stream)
        setattr(sys, self._name, self._stream)


def _same(one: int, other: int) -> bool:
    """Whether both descriptors are open, and of the same file."""
    with suppress(OSError):
        return os.path.sameopenfile(one, other)
    return False


def _open_directory() -> int | None:
    """Open the current directory, which may be renamed later; None when it is gone."""
    with suppress(OSError):
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
