"""Reads the files of an export, and checks them against its manifest."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final

from anyio import to_thread

from streamer_store.errors import InvalidExport
from streamer_store.schema import Table
from streamer_store.transfer.lines import decode_line
from streamer_store.transfer.manifest import (
    MANIFEST,
    MAX_DOCUMENT_BYTES,
    PROGRESS,
    Manifest,
    Part,
    read_manifest,
    sha256,
)
from streamer_store.transfer.parts import MAX_PART_BYTES, read_lines
from streamer_store.transfer.target import Target
from streamer_store.values import Item

_IGNORED: Final = frozenset({MANIFEST, PROGRESS})


class ExportReader:
    """Reads one export. The items come from a thread, so the event loop is free meanwhile."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def error(self, reason: str, file: str = "", line: int = 0) -> InvalidExport:
        """Return an error with the place in the export."""
        return InvalidExport(reason, target=str(self._target), file=file, line=line)

    async def manifest(self) -> Manifest:
        """Return the manifest, after the check that its files are there and no others.

        Raises InvalidExport.
        """
        data = await self._target.read(MANIFEST, at_most=MAX_DOCUMENT_BYTES)
        if data is None:
            raise await self._no_manifest()
        try:
            manifest = read_manifest(data)
        except ValueError as error:
            raise self.error(str(error), MANIFEST) from error
        missing = {part.name: part for parts in manifest.parts.values() for part in parts}
        async with self._target.files() as files:
            async for name, size in files:
                part = missing.pop(name, None)
                if part is None and name not in _IGNORED:
                    raise self.error(f"the file is not in {MANIFEST}", name)
                if part is not None:
                    self._check_size(part, size)
        if missing:
            raise self.error("the file is missing", min(missing))
        return manifest

    async def chunks(
        self, part: Part, table: Table, *, is_full: Callable[[list[Item]], bool]
    ) -> AsyncGenerator[tuple[int, list[Item]]]:
        """Yield the items of a part in order: the line of the first one, and the items.

        `is_full`: whether to yield the items that were read so far. Raises InvalidExport. Use
        `contextlib.aclosing`.
        """
        data = await self._target.read(part.name, at_most=MAX_PART_BYTES)
        if data is None:
            raise self.error("the file is missing", part.name)
        self._check_size(part, len(data))
        if await to_thread.run_sync(sha256, data) != part.sha256:
            raise self.error("its checksum does not match: the file was changed", part.name)
        lines = self._items(part, table, data)
        line = 1
        while True:
            chunk = await to_thread.run_sync(_take, lines, is_full)
            if not chunk:
                break
            yield line, chunk
            line += len(chunk)
        if line - 1 != part.items:
            raise self.error(
                f"it has {line - 1} items, and {MANIFEST} says {part.items}", part.name
            )

    def _items(self, part: Part, table: Table, data: bytes) -> Iterator[Item]:
        number = 0
        try:
            for number, line in enumerate(read_lines(data), start=1):  # noqa: B007  for the error
                yield decode_line(line, table)
        except ValueError as error:
            raise self.error(str(error), part.name, number) from error

    def _check_size(self, part: Part, size: int) -> None:
        if size != part.bytes:
            raise self.error(
                f"it has {size:,} bytes, and {MANIFEST} says {part.bytes:,}: it was cut off or"
                " changed",
                part.name,
            )

    async def _no_manifest(self) -> InvalidExport:
        if await self._target.read(PROGRESS, at_most=MAX_DOCUMENT_BYTES) is not None:
            return self.error("the export is not finished: run the export again")
        async with self._target.files() as files:
            async for _ in files:
                return self.error(f"not an export: it has no {MANIFEST}")
        return self.error("there is no export: it is empty or does not exist")


def _take(items: Iterator[Item], is_full: Callable[[list[Item]], bool]) -> list[Item]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if is_full(chunk):
            break
    return chunk
