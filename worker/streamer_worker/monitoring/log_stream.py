"""The stream that log lines are written to: owned by the log, never blocking for long."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

_BLOCKS_FOR: Final = 1.0
_LOCK_TRIES: Final = 200
_LOCK_PAUSE: Final = 0.001
_MILLISECONDS: Final = 1000
_AFTER_STANDARD: Final = 3  # the first descriptor that is not stdin, stdout or stderr
_CLOSED: Final = (-1, -1)
_NO_FILE: Final = (-2, -2)


class LogStream:
    """A duplicate of a descriptor, so that closing or replacing `sys.stderr` does not close it.

    Lines of several processes do not mix: each line is written under a lock on the open file,
    which processes that inherit the descriptor share. Any thread may call `write`.
    """

    def __init__(self, descriptor: int) -> None:
        """Duplicate `descriptor`. Raises OSError if it is closed."""
        self._source = descriptor
        self._open()
        self._identity = _identity(self.descriptor)
        status = os.fstat(self.descriptor)
        # A write to these blocks if nobody reads, unless it is small and poll() allows it.
        self._blocks = stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)
        self._locks = self._blocks or stat.S_ISREG(status.st_mode) or os.isatty(self.descriptor)
        self._lock = threading.RLock()
        self._stalled = False
        self._lock_is_held = False
        self._torn = False
        self._lost = 0

    def write(self, text: str) -> bool:
        """Write `text` whole and return True. Return False if that is impossible.

        A reader that is slow is waited for, for a second. After that, lines are dropped at once
        until it reads again.
        """
        data = text.encode(errors="backslashreplace")
        acquired = self._lock.acquire(timeout=_BLOCKS_FOR)
        try:
            with self._locked():
                written = self._is_ours() and self._write(data)
        except OSError:
            written = False
        finally:
            if acquired:
                self._lock.release()
        if not written:
            self._lost += 1
        return written

    def take_lost(self) -> int:
        """Return how many lines were dropped since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    def close(self) -> None:
        if self._identity == _identity(self.descriptor):
            os.close(self.descriptor)
        self._identity = _CLOSED

    def _open(self) -> None:
        self.descriptor = fcntl.fcntl(self._source, fcntl.F_DUPFD_CLOEXEC, _AFTER_STANDARD)
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLOUT)

    def _write(self, data: bytes) -> bool:
        if self._torn:
            data = b"\n" + data
        size = select.PIPE_BUF if self._blocks else len(data)
        rest = memoryview(data)
        try:
            while rest and self._can_write():
                rest = rest[os.write(self.descriptor, rest[:size]) :]
        finally:
            if len(rest) < len(data):
                self._torn = bool(rest)
        return not rest

    def _can_write(self) -> bool:
        wait = 0.0 if self._stalled else _BLOCKS_FOR
        self._stalled = not self._poll.poll(wait * _MILLISECONDS)
        return not self._stalled

    def _is_ours(self) -> bool:
        """Whether our descriptor is open. If somebody closed it, its number may be another file's
        by now, so duplicate the original descriptor again if that is still the same file.
        """
        if self._identity == _identity(self.descriptor):
            return True
        if self._identity != _identity(self._source):
            return False
        self._open()
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock between processes. A process that is stopped while it holds the lock
        delays one line, not each.
        """
        held = self._locks and self._take_lock()
        try:
            yield
        finally:
            if held:
                with suppress(OSError):
                    fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def _take_lock(self) -> bool:
        for _ in range(1 if self._lock_is_held else _LOCK_TRIES):
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                time.sleep(_LOCK_PAUSE)
            except OSError:  # the system has no locks for this kind of file
                self._locks = False
                return False
            else:
                self._lock_is_held = False
                return True
        self._lock_is_held = True
        return False


class TextStream:
    """The same over a stream without a descriptor, such as io.StringIO."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0

    def write(self, text: str) -> bool:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._lost += 1
            return False
        return True

    def take_lost(self) -> int:
        """Return how many lines were dropped since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    def close(self) -> None:
        """Leave the stream to its owner."""


def stream_over(stream: TextIO | None) -> LogStream | TextStream | None:
    """Return what log lines are written to, for a stream of Python. None if it is closed."""
    if stream is None or stream.closed:
        return None
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return TextStream(stream)
    try:
        return LogStream(descriptor)
    except OSError:
        return None


def _identity(descriptor: int) -> tuple[int, int]:
    """Return the device and inode of an open file."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return _NO_FILE
    return status.st_dev, status.st_ino
