"""An export in a directory. Only its owner can read it, because items have payloads."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from anyio import to_thread

from streamer_store.errors import ConcurrentModification, TargetFailed
from streamer_store.schema import TABLES
from streamer_store.transfer.manifest import MANIFEST, PART_NAME, PROGRESS

_LOCK: Final = ".lock"
_UNFINISHED: Final = ".unfinished"
_FOLDERS: Final = frozenset(table.name for table in TABLES)
_PRIVATE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700
_Result = TypeVar("_Result")


class Directory:
    """Implements Target. A file is written beside its place, synced, and renamed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    @asynccontextmanager
    async def files(self) -> AsyncIterator[AsyncIterator[tuple[str, int]]]:
        found = await self._run("read", self._list)

        async def each() -> AsyncGenerator[tuple[str, int]]:
            for name, size in found:
                if not _is_unfinished(name):
                    yield name, size

        async with aclosing(each()) as files:
            yield files

    async def read(self, name: str, *, at_most: int) -> bytes | None:
        return await self._run("read", self._read, name, at_most)

    async def write(self, name: str, data: bytes, *, fenced: bool = False) -> None:  # noqa: ARG002
        await self._run("write", self._write, name, data)

    async def delete(self, name: str, *, fenced: bool = False) -> None:  # noqa: ARG002
        await self._run("write", self._delete, name)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        descriptor = await self._run("write", self._take_lock)
        try:
            yield
        finally:
            # While the lock is held, so that nobody waits for a file that is no longer there.
            with suppress(OSError):
                (self._path / _LOCK).unlink()
            os.close(descriptor)

    async def _run(self, verb: str, work: Callable[..., _Result], *arguments: object) -> _Result:
        def translated() -> _Result:
            with _translate_errors(verb, self._path):
                return work(*arguments)

        return await to_thread.run_sync(translated)

    def _take_lock(self) -> int:
        self._path.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT, _PRIVATE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The holder before may have removed the file between the two calls.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), (self._path / _LOCK).stat()):
                        self._remove_unfinished()
                        return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise ConcurrentModification(f"another export writes to {self}") from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _remove_unfinished(self) -> None:
        """Remove the files of an export that a crash left unfinished."""
        for name, _ in self._list():
            if _is_unfinished(name):
                (self._path / name).unlink()

    def _list(self) -> list[tuple[str, int]]:
        if not self._path.exists():
            return []
        if not self._path.is_dir():
            raise NotADirectoryError(20, "it is a file, not a directory")
        found = []
        for path in self._path.iterdir():
            if not path.is_dir():
                found.append((path.name, path.lstat().st_size))
            elif path.name in _FOLDERS:
                found += [
                    (f"{path.name}/{each.name}", each.lstat().st_size) for each in path.iterdir()
                ]
            else:  # not ours, and possibly large
                found.append((f"{path.name}/", 0))
        return sorted(entry for entry in found if entry[0] != _LOCK)

    def _read(self, name: str, at_most: int) -> bytes | None:
        try:
            # A pipe would wait for its other end.
            descriptor = os.open(self._path / name, os.O_RDONLY | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise TargetFailed(f"{self}/{name} is no file")
                data = file.read(at_most + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(data) > at_most:
            raise TargetFailed(f"{self}/{name} is larger than {at_most:,} bytes")
        return data

    def _write(self, name: str, data: bytes) -> None:
        path = self._path / name
        with suppress(FileExistsError):
            path.parent.mkdir(mode=_PRIVATE_FOLDER)
            _sync_folder(self._path)
        unfinished = path.with_name(path.name + _UNFINISHED)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def _delete(self, name: str) -> None:
        path = self._path / name
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _is_unfinished(name: str) -> bool:
    finished = name.removesuffix(_UNFINISHED)
    is_ours = finished in {MANIFEST, PROGRESS} or PART_NAME.fullmatch(finished) is not None
    return is_ours and finished != name


def _sync_folder(folder: Path) -> None:
    """Make new names and removed names in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translate_errors(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise TargetFailed(f"cannot {verb} {error.filename or path}: {reason}") from error
    except ValueError as error:  # a null byte in the path
        raise TargetFailed(f"cannot {verb} {path}: {error}") from error
