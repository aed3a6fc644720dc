"""The stream that log lines are written to. A write blocks for a few seconds at most."""

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

# Seconds that a write waits for a slow reader, and for other threads.
_BLOCKS_FOR: Final = 1.0
# Tries to take the lock between processes, and the seconds between them.
_LOCK_TRIES: Final = 200
_LOCK_PAUSE: Final = 0.001
_MILLISECONDS: Final = 1000
_AFTER_STANDARD: Final = 3  # the first descriptor that is not stdin, stdout or stderr
_CLOSED: Final = (-1, -1)
_NO_FILE: Final = (-2, -2)


class LogStream:
    """Writes lines to a duplicate of a descriptor, which stays open if `sys.stderr` is closed.

    Lines of several processes do not mix. To a regular file each line is one write, and the
    system keeps those apart. To a pipe, a socket or a terminal each line is written under a lock on
    the open file, which processes that inherit the descriptor share. Any thread may call `write`.
    """

    def __init__(self, descriptor: int) -> None:
        """Duplicate `descriptor`. Raises OSError if it is closed."""
        self._source = descriptor
        self._open()
        self._identity = _identity(self.descriptor)
        status = os.fstat(self.descriptor)
        # A write to these blocks without a reader, unless it is small and poll() allows it.
        self._blocks = stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)
        # A regular file is always ready, and needs no lock.
        self._is_file = stat.S_ISREG(status.st_mode)
        self._locks = self._blocks or os.isatty(self.descriptor)
        # Held by the thread that writes. The fields below are written under it, except by a thread
        # that could not get it within a second.
        self._lock = threading.RLock()
        self._stalled = False
        self._lock_is_held = False
        self._torn = False
        self._lost = 0

    def write(self, text: str) -> bool:
        """Write the whole text. Return False if it was dropped.

        Waits a second for a slow reader. After that, lines are dropped at once until the reader
        reads again.
        """
        data = text.encode(errors="backslashreplace")
        acquired = self._lock.acquire(timeout=_BLOCKS_FOR)
        try:
            if self._locks:
                with self._locked():
                    written = self._is_ours() and self._write(data)
            else:
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
        """Close the duplicate, unless somebody else has closed it already."""
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
        remaining = memoryview(data)
        try:
            while remaining and self._can_write():
                remaining = remaining[os.write(self.descriptor, remaining[:size]) :]
        finally:
            if len(remaining) < len(data):
                self._torn = bool(remaining)
        return not remaining

    def _can_write(self) -> bool:
        if self._is_file:
            return True
        wait = 0.0 if self._stalled else _BLOCKS_FOR
        self._stalled = not self._poll.poll(wait * _MILLISECONDS)
        return not self._stalled

    def _is_ours(self) -> bool:
        """Return whether the descriptor is open. If other code closed it, its number may stand for
        another file by now. Then duplicate the original again, if that is still the same file.
        """
        if self._identity == _identity(self.descriptor):
            return True
        if self._identity != _identity(self._source):
            return False
        self._open()
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock between processes, or go on without it after 0.2 s.

        If a stopped process holds the lock, only the first line is delayed.
        """
        held = self._take_lock()
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
    """Has the methods of LogStream, for a stream without a descriptor, such as io.StringIO."""

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
        """Do nothing: the owner of the stream closes it."""


def stream_over(stream: TextIO | None) -> LogStream | TextStream | None:
    """Return a stream for log lines that writes to a stream of Python. None if that is closed."""
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
