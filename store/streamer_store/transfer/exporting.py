"""The export: a parallel scan of the four tables, written as compressed parts.

Invariants:

1. A part in `progress.json` is whole and durable, and no part is written twice.
2. `next_key` of a segment is the last key of its last part. So an export that is continued reads
   again what was in no part yet, and nothing else.
3. `manifest.json` is written when all parts are. A target with it is a whole export.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import anyio
from anyio import to_thread

from streamer_store.clock import Clock, new_id
from streamer_store.engine import Engine, Scan
from streamer_store.errors import (
    AlreadyExists,
    ConcurrentModification,
    InvalidExport,
    InvalidInput,
    ungrouped,
)
from streamer_store.release import package_version
from streamer_store.repeating import repeat
from streamer_store.reserved_ids import is_control_item
from streamer_store.schema import TABLES, Table
from streamer_store.table_names import TableNames
from streamer_store.times import format_time
from streamer_store.transfer.checks import require_tables
from streamer_store.transfer.manifest import (
    MANIFEST,
    MAX_DOCUMENT_BYTES,
    PART_NAME,
    PROGRESS,
    Manifest,
    Part,
    Progress,
    Segment,
    read_manifest,
    read_progress,
    sha256,
)
from streamer_store.transfer.parts import PartWriter
from streamer_store.transfer.results import Exported, TransferProgress
from streamer_store.transfer.target import Target
from streamer_store.unit_limiter import UnitLimiter
from streamer_store.values import item_size

Observer = Callable[[TransferProgress], object]
DEFAULT_SEGMENTS: Final = 4
_RUN_DIGITS: Final = 8
_FIRST_LIMIT: Final = 25
_PAGE_UNITS: Final = 64
"""About how many units a page costs. It is 256 KB then: pages of 1 MB take 70 MB more memory."""
_READ_UNIT_BYTES: Final = 4096
"""What a unit of a consistent scan reads (Developer Guide, "Capacity unit consumption")."""
_SHOWN_FILES: Final = 3


class Exporter:
    """Exports the tables of an engine once.

    - `segments`: how many segments of a table are scanned at a time. None: as many as the export
      that is continued has, or four.
    - `part_bytes`: the compressed size from which a part is written.
    - `max_read_units`: read units a second. None: no limit.
    - `on_progress`: called after each page.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        target: Target,
        clock: Clock,
        rng: random.Random,
        segments: int | None,
        part_bytes: int,
        max_read_units: float | None,
        on_progress: Observer,
    ) -> None:
        self._engine = engine
        self._target = target
        self._clock = clock
        self._rng = rng
        self._segments = segments
        self._part_bytes = part_bytes
        self._limiter = UnitLimiter("max_read_units", max_read_units)
        self._page_units = min(_PAGE_UNITS, max_read_units or _PAGE_UNITS)
        self._on_progress = on_progress
        self._names = TableNames(**{table.name: engine.table_name(table) for table in TABLES})
        self._saving = anyio.Lock()
        self._compressing = anyio.Lock()
        self._items = 0

    async def run(self) -> Exported:
        """Export, or continue the export in the target. For the errors see `export_tables`."""
        await require_tables(self._engine, for_writes=False)
        async with self._target.lock():
            manifest, progress = await self._read_documents()
            if manifest is not None:
                await self._refuse_unless_unfinished(manifest, progress)
                await self._target.delete(PROGRESS)
                return self._result(manifest, resumed=True)
            strays = await self._find_strays(progress)
            resumed = progress is not None
            progress = self._begin(progress)
            # In S3 this takes over from another run. Until then, that run may record its strays.
            await self._save(progress)
            await self._remove(strays)
            for table in TABLES:
                await self._export_table(progress, table)
            await self._remove(await self._find_strays(progress))
            manifest = self._manifest(progress)
            await self._target.write(MANIFEST, manifest.to_json())
            await self._target.delete(PROGRESS, fenced=True)
            return self._result(manifest, resumed=resumed)

    async def _read_documents(self) -> tuple[Manifest | None, Progress | None]:
        manifest = await self._target.read(MANIFEST, at_most=MAX_DOCUMENT_BYTES)
        progress = await self._target.read(PROGRESS, at_most=MAX_DOCUMENT_BYTES)
        name = MANIFEST
        try:
            whole = None if manifest is None else read_manifest(manifest)
            name = PROGRESS
            return whole, None if progress is None else read_progress(progress)
        except ValueError as error:
            raise InvalidExport(str(error), target=str(self._target), file=name) from error

    async def _refuse_unless_unfinished(
        self, manifest: Manifest, progress: Progress | None
    ) -> None:
        """Raise AlreadyExists unless an export crashed between its last two steps."""
        if progress is None or progress.id != manifest.id:
            raise AlreadyExists(
                f"{self._target} has a whole export, of {manifest.ended_at}: choose another target"
            )

    async def _find_strays(self, progress: Progress | None) -> list[str]:
        """Return the parts that a run wrote and did not record. Raises InvalidInput for others."""
        known = {PROGRESS} if progress is None else {PROGRESS, *progress.part_names}
        strays: list[str] = []
        foreign: list[str] = []
        async with self._target.files() as files:
            async for name, _ in files:
                if name in known:
                    continue
                is_stray = progress is not None and PART_NAME.fullmatch(name)
                (strays if is_stray else foreign).append(name)
                if len(foreign) == _SHOWN_FILES:
                    break
        if foreign:
            raise InvalidInput(
                f"{self._target} has files that are not of this export, such as"
                f" {', '.join(foreign)}: choose an empty target"
            )
        return strays

    async def _remove(self, names: list[str]) -> None:
        for name in names:
            await self._target.delete(name)

    def _begin(self, progress: Progress | None) -> Progress:
        run = f"{self._rng.getrandbits(4 * _RUN_DIGITS):0{_RUN_DIGITS}x}"
        if progress is None:
            return Progress(
                id=new_id(self._rng),
                run=run,
                names=self._names,
                started_at=format_time(self._clock.now()),
                segments={
                    table.name: [Segment() for _ in range(self._segments or DEFAULT_SEGMENTS)]
                    for table in TABLES
                },
            )
        if progress.names != self._names:
            raise InvalidInput(
                f"{self._target} has an unfinished export of the tables {progress.names}, and"
                f" these are {self._names}: choose another target"
            )
        counts = {len(segments) for segments in progress.segments.values()}
        if self._segments is not None and counts != {self._segments}:
            raise InvalidInput(
                f"{self._target} has an unfinished export with {max(counts)} segments, not"
                f" {self._segments}: leave the number out"
            )
        progress.run = run
        return progress

    async def _export_table(self, progress: Progress, table: Table) -> None:
        segments = progress.segments[table.name]
        self._items = sum(part.items for segment in segments for part in segment.parts)
        self._report(table, 0)
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for number, segment in enumerate(segments):
                    if not segment.is_done:
                        tasks.start_soon(self._export_segment, progress, table, number, segment)

    async def _export_segment(
        self, progress: Progress, table: Table, number: int, segment: Segment
    ) -> None:
        segments = len(progress.segments[table.name])
        scan = Scan(
            table=table,
            segment=number,
            segments=segments,
            limit=_FIRST_LIMIT,
            exclusive_start_key=segment.next_key,
        )
        part = PartWriter()
        while True:
            scan = await self._add_page(scan, part)
            key = scan.exclusive_start_key
            if key is None or part.size >= self._part_bytes:
                await self._close_part(progress, table, number, part, key)
                part = PartWriter()
            if key is None:
                return

    async def _add_page(self, scan: Scan, part: PartWriter) -> Scan:
        """Add a page to a part, and return the next scan. It has no start key after the last page.

        The page is freed when this returns, before the next one is read.
        """
        page = await repeat(lambda: self._engine.scan(scan), rng=self._rng)
        units = max(1, -(-sum(map(item_size, page.items)) // _READ_UNIT_BYTES))
        # The limits of rates belong to the moment, and to the worker's own tables.
        items = [item for item in page.items if not is_control_item(item)]
        async with self._compressing:
            await to_thread.run_sync(part.add, items)
        self._report(scan.table, len(items))
        await self._limiter.spend(units)
        limit = max(1, math.floor(self._page_units * max(1, len(page.items)) / units))
        return replace(scan, limit=limit, exclusive_start_key=page.last_evaluated_key)

    async def _close_part(
        self, progress: Progress, table: Table, number: int, part: PartWriter, key: object
    ) -> None:
        """Write a part, if it has items, and record it."""
        segment = progress.segments[table.name][number]
        if part.items:
            data = part.finish()
            name = f"{table.name}/{number:02}-{len(segment.parts):04}-{progress.run}.json.gz"
            await self._target.write(name, data)
            segment.parts.append(
                Part(name=name, items=part.items, bytes=len(data), sha256=sha256(data))
            )
        segment.next_key = key  # type: ignore[assignment]
        segment.is_done = key is None
        try:
            await self._save(progress)
        except ConcurrentModification:
            # Another run has taken over, and does not know this part.
            if part.items:
                await self._target.delete(segment.parts[-1].name)
            raise

    async def _save(self, progress: Progress) -> None:
        async with self._saving:
            await self._target.write(PROGRESS, progress.to_json(), fenced=True)

    def _report(self, table: Table, items: int) -> None:
        self._items += items
        self._on_progress(TransferProgress(step="export", table=table.name, items=self._items))

    def _manifest(self, progress: Progress) -> Manifest:
        return Manifest(
            id=progress.id,
            release=package_version("streamer-worker"),
            names=progress.names,
            started_at=progress.started_at,
            ended_at=format_time(self._clock.now()),
            segments=max(map(len, progress.segments.values())),
            parts={
                table: [part for segment in segments for part in segment.parts]
                for table, segments in progress.segments.items()
            },
        )

    def _result(self, manifest: Manifest, *, resumed: bool) -> Exported:
        parts = [part for of_table in manifest.parts.values() for part in of_table]
        return Exported(
            target=str(self._target),
            items=manifest.items,
            parts=len(parts),
            bytes=sum(part.bytes for part in parts),
            resumed=resumed,
        )
