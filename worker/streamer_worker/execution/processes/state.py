"""Restores process-wide state that a handler has changed, before the next handler runs."""

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
    """A snapshot of the state of this process, taken by the constructor. Main thread only."""

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
    def restored_after(self) -> Iterator[None]:
        """Restore the state after the block. The `random` module gets a new seed."""
        try:
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Restore the state, except a directory or a locale that no longer exists."""
        self._restore_signals()
        self._restore_environment()
        # The directory may have been removed.
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
        # Only after a change: a reset makes Python show again the warnings that it shows once.
        warnings.showwarning = self._show_warning
        if list(warnings.filters) != self._filters:
            warnings.resetwarnings()  # makes Python notice that the list has changed
            warnings.filters[:] = self._filters  # type: ignore[index]

    def _restore_environment(self) -> None:
        for name in [name for name in os.environ if name not in self._environment]:
            del os.environ[name]
        for name, value in self._environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        time.tzset()  # reads TZ again


class _Output:
    """A snapshot of a standard stream and its descriptor."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._number = number
        self._stream: TextIO | None = getattr(sys, name)
        self._duplicate: int | None = None
        with suppress(OSError):
            self._duplicate = os.dup(number)

    def restore(self) -> None:
        """Restore both. Opens the stream again if a handler has closed it."""
        if self._duplicate is not None and not _same(self._duplicate, self._number):
            os.dup2(self._duplicate, self._number)
        stream = self._stream
        if stream is not None and stream.closed:
            self._stream = open(  # noqa: SIM115  used until the process ends
                self._number, "w", encoding=stream.encoding, errors=stream.errors, closefd=False
            )
            setattr(sys, f"__{self._name}__", self._stream)
        setattr(sys, self._name, self._stream)


def _same(one: int, other: int) -> bool:
    """Whether both descriptors are open and refer to the same file."""
    with suppress(OSError):
        return os.path.sameopenfile(one, other)
    return False


def _open_directory() -> int | None:
    """Open the current directory, so that it can be restored even if it is renamed. None if it was
    removed.
    """
    with suppress(OSError):
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
