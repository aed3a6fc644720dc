"""Where the lines of `enqueue --file` come from: a file, a pipe or standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

import anyio

from streamer_store import InvalidInput
from streamer_worker.cli.request_lines import Line, LineReader

_SLICE: Final = 500
_READ_BYTES: Final = 256 * 1024
_STDIN: Final = Path("-")


class LineSource:
    """The lines of a file, or of standard input, which can be read once.

    `closing`: closes the file. Raises InvalidInput if it cannot be read.
    """

    def __init__(self, closing: ExitStack, path: Path, id_prefix: str | None) -> None:
        self._name = "standard input" if path == _STDIN else str(path)
        self._id_prefix = id_prefix
        try:
            self._file = (
                standard_input() if path == _STDIN else closing.enter_context(path.open("rb"))
            )
            mode = os.fstat(self._file.fileno()).st_mode
        except (OSError, ValueError) as error:
            self._refuse(error)
        self.can_repeat = path != _STDIN and stat.S_ISREG(mode)
        self._can_wait = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or self._file.isatty()

    def lines(self) -> Iterator[Line]:
        """Yield all lines."""
        reader = LineReader(id_prefix=self._id_prefix)
        while data := self._read():
            yield from reader.feed(data)
        yield from reader.close()

    async def slices(self) -> AsyncGenerator[list[Line]]:
        """Yield the lines as they come, up to 500 at a time."""
        reader = LineReader(id_prefix=self._id_prefix)
        lines: list[Line] = []
        is_open = True
        while is_open:
            if self._can_wait:
                await anyio.wait_readable(self._file)
            data = self._read()
            is_open = bool(data)
            lines += reader.feed(data) if data else reader.close()
            while len(lines) >= _SLICE or (lines and (self._can_wait or not is_open)):
                yield lines[:_SLICE]
                del lines[:_SLICE]

    def rewind(self) -> None:
        """Read from the beginning again, if that is possible."""
        if self.can_repeat:
            self._file.seek(0)

    def _read(self) -> bytes:
        try:
            return os.read(self._file.fileno(), _READ_BYTES)
        except OSError as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> NoReturn:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"cannot read {self._name}: {reason}") from error


def standard_input() -> BinaryIO:
    """Return standard input. Raises ValueError if it is closed."""
    if sys.stdin is None:
        raise ValueError("it is closed")
    return sys.stdin.buffer
