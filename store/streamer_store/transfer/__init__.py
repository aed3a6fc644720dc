"""Portable exports of the four tables: to a directory or to S3, and back.

What the modules import takes long, so the functions here import them when they are called.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from os import PathLike

from streamer_store.clock import Clock, SystemClock
from streamer_store.stores import Stores
from streamer_store.transfer.results import (
    Existing,
    Exported,
    Imported,
    ImportPlan,
    TransferProgress,
)

__all__ = [
    "Existing",
    "Exported",
    "ImportPlan",
    "Imported",
    "TransferProgress",
    "export_tables",
    "import_tables",
]

PART_BYTES = 4 * 1024 * 1024
"""The compressed size from which a part is written. It bounds what a crash repeats."""


def _ignore(_: object) -> None:
    pass


async def export_tables(
    stores: Stores,
    target: str | PathLike[str],
    *,
    segments: int | None = None,
    max_read_units: float | None = None,
    part_bytes: int = PART_BYTES,
    region: str | None = None,
    on_progress: Callable[[TransferProgress], object] = _ignore,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> Exported:
    """Write all items of the four tables to files, or continue an export that was interrupted.

    Each item is written as it is, with the attributes that this release does not know. Every item
    that exists from the beginning to the end of the export is in it. An item that is written or
    deleted meanwhile may be in it, and the tables are not a snapshot of one moment.

    The files are JSON Lines in DynamoDB's own JSON, compressed with gzip. `manifest.json` is
    written last: an export that has one is whole. Run the same export again after an interruption:
    it continues after the last whole file of each segment.

    - `target`: a directory, which is created readable for its owner only, or `s3://bucket/prefix`.
      It must be empty, or have an unfinished export of the same tables.
    - `segments`: how many segments of a table are scanned at a time, 1 to 64. None: four, or as
      many as the export that is continued has.
    - `max_read_units`: read units a second. None: as fast as possible.
    - `part_bytes`: the compressed size from which a file is complete. Default 4 MB.
    - `region`: the region of the bucket. By default the AWS settings decide, as they decide the
      endpoint and the credentials of S3.
    - `on_progress`: called after each page.
    - `clock`, `rng`: the sources of times and ids. Default SystemClock and random.SystemRandom.

    Raises AlreadyExists if the target has a whole export, InvalidInput for other files in it or a
    wrong argument, InvalidExport if its unfinished export was changed, ConcurrentModification if
    another export writes to it, TargetFailed if it cannot be written, TableMissing; AccessDenied;
    StoreUnavailable. After TargetFailed and StoreUnavailable, run it again.
    """
    from streamer_store.errors import ValidationError
    from streamer_store.transfer.exporting import Exporter
    from streamer_store.transfer.manifest import MAX_SEGMENTS
    from streamer_store.transfer.target import open_target

    if segments is not None and not 1 <= segments <= MAX_SEGMENTS:
        raise ValidationError("segments", f"must be 1 to {MAX_SEGMENTS}, not {segments}")
    if part_bytes < 1:
        raise ValidationError("part_bytes", f"must be more than 0, not {part_bytes}")
    async with open_target(target, region=region) as opened:
        return await Exporter(
            engine=stores.engine,
            target=opened,
            clock=clock or SystemClock(),
            rng=rng or random.SystemRandom(),
            segments=segments,
            part_bytes=part_bytes,
            max_read_units=max_read_units,
            on_progress=on_progress,
        ).run()


async def import_tables(
    stores: Stores,
    target: str | PathLike[str],
    *,
    existing: Existing = Existing.REFUSE,
    release_running: bool = False,
    with_workers: bool = False,
    max_write_units: float | None = None,
    region: str | None = None,
    before_write: Callable[[ImportPlan], object] = _ignore,
    on_progress: Callable[[TransferProgress], object] = _ignore,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> Imported:
    """Write the items of an export to the four tables, which must exist.

    The whole export is read and verified first: its files, their checksums, and each item. Nothing
    is written if it is not whole. Each item is written as it was, if it does not exist. An item
    that exists and is equal counts as done. So run the same import again after an interruption.

    - `target`: the directory, or `s3://bucket/prefix`.
    - `existing`: what happens to items that exist and differ. By default they are refused.
    - `release_running`: write requests that were PROCESSING as their worker would have released
      them: PENDING, or SCHEDULED at low priority. By default they are PROCESSING, and the first
      worker rescues them.
    - `with_workers`: import although workers run on the tables.
    - `max_write_units`: write units a second, those of the indexes included. None: as fast as
      possible.
    - `region`: the region of the bucket. By default the AWS settings decide.
    - `before_write`: called once, after all checks and before the first write. Raises to stop.
    - `on_progress`: called after each few items.
    - `clock`, `rng`: the sources of the current time, and of the pauses before a call that was
      throttled is repeated. Default SystemClock and random.SystemRandom.

    Raises InvalidExport with the file and the line, TableMissing, InvalidInput if a table is not
    as the worker needs it or an argument is wrong, WorkersRunning, and AlreadyExists if items exist
    and differ: nothing was written then. Raises TargetFailed; AccessDenied; StoreUnavailable: run
    it again. Items that others write during the import are kept, and counted as `refused`.
    """
    from streamer_store.errors import ValidationError
    from streamer_store.transfer.importing import Importer
    from streamer_store.transfer.target import open_target

    if existing not in set(Existing):
        names = ", ".join(Existing)
        raise ValidationError("existing", f"must be one of {names}, not {existing}")
    async with open_target(target, region=region) as opened:
        return await Importer(
            engine=stores.engine,
            target=opened,
            clock=clock or SystemClock(),
            rng=rng or random.SystemRandom(),
            existing=Existing(existing),
            release_running=release_running,
            with_workers=with_workers,
            max_write_units=max_write_units,
            before_write=before_write,
            on_progress=on_progress,
        ).run()
