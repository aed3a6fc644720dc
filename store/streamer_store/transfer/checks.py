"""What must hold before an export reads, or an import writes."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from streamer_store.engine import Engine, Scan, paginate
from streamer_store.errors import InvalidInput, TableMissing, WorkersRunning
from streamer_store.schema import TABLES, WORKERS
from streamer_store.times import parse_time
from streamer_store.transfer.comparing import is_same_item
from streamer_store.transfer.manifest import Manifest
from streamer_store.transfer.reading import ExportReader
from streamer_store.values import Item

_ALIVE_FOR: Final = timedelta(minutes=2)
"""The age of a heartbeat up to which a worker counts as running. Clocks may differ."""
_SHOWN_WORKERS: Final = 3
_ROWS: Final = 100


async def require_tables(engine: Engine, *, for_writes: bool) -> None:
    """Raise TableMissing if a table is missing.

    `for_writes`: also raise InvalidInput if the worker cannot work with a table.
    """
    blocking = [difference for difference in await engine.check_tables() if difference.blocking]
    missing = [difference for difference in blocking if difference.creatable]
    if missing:
        raise TableMissing("; ".join(map(str, missing)))
    if blocking and for_writes:
        raise InvalidInput("; ".join(map(str, blocking)))


async def tables_with_items(engine: Engine) -> list[str]:
    """Return the names of the tables that are not empty, without the prefix."""
    found = []
    for table in TABLES:
        async with aclosing(paginate(engine.scan, Scan(table=table, limit=1))) as pages:
            async for page in pages:  # one may be empty although others follow
                if page.items:
                    found.append(table.name)
                    break
    return found


async def require_no_workers(
    engine: Engine, reader: ExportReader, manifest: Manifest, *, now: datetime
) -> None:
    """Raise WorkersRunning if workers run on the tables.

    A row that is equal to one of the export is not a worker: an earlier import wrote it.
    """
    rows: dict[str, Item] = {}
    async for page in paginate(engine.scan, Scan(table=WORKERS)):
        rows |= {row["WorkerID"]["S"]: row for row in page.items if _is_alive(row, now)}
    for part in manifest.parts.get(WORKERS.name, ()) if rows else ():
        is_full = partial(_has_rows, _ROWS)
        async with aclosing(reader.chunks(part, WORKERS, is_full=is_full)) as chunks:
            async for _, items in chunks:
                for item in items:
                    row = rows.get(item["WorkerID"]["S"])
                    if row is not None and is_same_item(row, item):
                        del rows[item["WorkerID"]["S"]]
    if rows:
        shown = ", ".join(sorted(rows)[:_SHOWN_WORKERS])
        more = ", …" if len(rows) > _SHOWN_WORKERS else ""
        raise WorkersRunning(
            f"workers with a heartbeat in the last two minutes: {len(rows)} ({shown}{more}). Stop"
            " them, or import with `with_workers` (--with-workers)",
            table=engine.table_name(WORKERS),
        )


def _has_rows(count: int, items: list[Item]) -> bool:
    return len(items) >= count


def _is_alive(row: Item, now: datetime) -> bool:
    try:
        seen_at = parse_time(row["SeenAt"]["S"])
    except (KeyError, ValueError):
        return False
    return seen_at is not None and seen_at > now - _ALIVE_FOR
