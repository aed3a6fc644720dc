"""Finds out whether Python files have changed, for `run --reload`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_IGNORED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
_ENVIRONMENT_FILE: Final = "pyvenv.cfg"
_Stamp = tuple[int, int]


class SourceFiles:
    """The .py files below a folder, and other files. Their times of change are compared.

    Nothing below a hidden folder, a virtual environment or node_modules counts. The files are
    read as often as asked, rather than watched by the kernel: that works on mounted folders and
    in containers too, and needs no package.
    """

    def __init__(self, folder: Path, others: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._others = tuple(others)
        self._stamps: dict[str, _Stamp] = {}
        self.remember()

    @property
    def count(self) -> int:
        """How many files there were when they were remembered."""
        return len(self._stamps)

    def remember(self) -> None:
        """Take the files as they are now for unchanged."""
        self._stamps = dict(self._read())

    def changed(self) -> str | None:
        """Return the path of a file that was written, added or deleted since `remember`."""
        now = dict(self._read())
        paths = {path for path, _ in self._stamps.items() ^ now.items()}
        return min(paths, default=None)

    def _read(self) -> Iterator[tuple[str, _Stamp]]:
        for folder, folders, names in os.walk(self._folder):
            if _ENVIRONMENT_FILE in names:
                folders.clear()
                continue
            folders[:] = [
                name for name in folders if not name.startswith(".") and name not in _IGNORED
            ]
            for name in names:
                if name.endswith(".py"):
                    yield from _stamped(os.path.join(folder, name))  # noqa: PTH118  faster
        for path in self._others:
            yield from _stamped(str(path))


def _stamped(path: str) -> Iterator[tuple[str, _Stamp]]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # deleted meanwhile, or a link to nothing
        return
    yield path, (status.st_mtime_ns, status.st_size)
