"""The first pass of an import: reads the whole export, and writes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing
from datetime import datetime
from decimal import Decimal
from typing import Final

from anyio import to_thread

from streamer_store.errors import TargetFailed
from streamer_store.schema import TABLES, TTL_ATTRIBUTE, Table
from streamer_store.times import epoch
from streamer_store.transfer.manifest import Manifest, Part
from streamer_store.transfer.reading import ExportReader
from streamer_store.transfer.releasing import released
from streamer_store.transfer.results import TransferProgress
from streamer_store.values import MAX_ITEM_BYTES, Item, item_size

_CHUNK_ITEMS: Final = 500
_CACHED_KB: Final = 4096


class Verifier:
    """Verifies one export. The ids are in a temporary database on disk, so memory is bounded.

    - `release_running`: whether running requests must also be small enough after their release.
    - `on_progress`: called after each 500 items.
    """

    def __init__(
        self,
        *,
        reader: ExportReader,
        manifest: Manifest,
        release_running: bool,
        now: datetime,
        on_progress: Callable[[TransferProgress], object],
    ) -> None:
        self._reader = reader
        self._manifest = manifest
        self._release_running = release_running
        self._now = now
        self._on_progress = on_progress
        self._parts: list[Part] = []
        self._expired = 0

    async def run(self) -> int:
        """Check every file, line and item, and that no id is there twice.

        Returns how many items have a TTL in the past. Raises InvalidExport with the file and line.
        """
        with closing(_open_ids()) as ids:
            for table in TABLES:
                parts = self._manifest.parts.get(table.name, ())
                done, total = 0, sum(part.items for part in parts)
                for part in parts:
                    self._parts.append(part)
                    async with aclosing(
                        self._reader.chunks(part, table, is_full=_is_full)
                    ) as chunks:
                        async for line, items in chunks:
                            await to_thread.run_sync(self._check, ids, table, line, items)
                            done += len(items)
                            self._report(table, done, total)
                self._parts.clear()
                ids.execute("DELETE FROM ids")
        return self._expired

    def _report(self, table: Table, items: int, total: int) -> None:
        self._on_progress(
            TransferProgress(step="verify", table=table.name, items=items, total=total)
        )

    def _check(self, ids: sqlite3.Connection, table: Table, line: int, items: list[Item]) -> None:
        part = len(self._parts) - 1
        for number, item in enumerate(items, start=line):
            key = item[table.hash_key]["S"]
            try:
                ids.execute("INSERT INTO ids VALUES (?, ?, ?)", (key, part, number))
            except sqlite3.IntegrityError:
                query = "SELECT part, line FROM ids WHERE key = ?"
                first_part, first_line = ids.execute(query, (key,)).fetchone()
                first = self._parts[first_part].name
                raise self._reader.error(
                    f"the id {key} is also in {first}, line {first_line}",
                    self._parts[part].name,
                    number,
                ) from None
            except sqlite3.Error as error:
                raise TargetFailed(f"the temporary database of ids failed: {error}") from error
            self._check_release(item, number)
            self._expired += is_expired(item, self._now)

    def _check_release(self, item: Item, line: int) -> None:
        if not self._release_running:
            return
        waiting = released(item, export_id=self._manifest.id, now=self._now)
        if waiting is not None and item_size(waiting) > MAX_ITEM_BYTES:
            raise self._reader.error(
                f"the request has no room to be released: {item_size(waiting):,} bytes",
                self._parts[-1].name,
                line,
            )


def is_expired(item: Item, now: datetime) -> bool:
    """Return whether the TTL of an item is in the past, so that DynamoDB deletes it soon."""
    ttl = item.get(TTL_ATTRIBUTE, {}).get("N")
    return ttl is not None and Decimal(ttl) < epoch(now)


def _is_full(items: list[Item]) -> bool:
    return len(items) >= _CHUNK_ITEMS


def _open_ids() -> sqlite3.Connection:
    """Return a database in a temporary file, which only this connection can reach.

    The calls come from several threads, one after another.
    """
    ids = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    ids.execute("PRAGMA journal_mode = OFF")
    ids.execute(f"PRAGMA cache_size = -{_CACHED_KB}")
    ids.execute("CREATE TABLE ids (key TEXT PRIMARY KEY, part INTEGER, line INTEGER) WITHOUT ROWID")
    ids.execute("BEGIN")
    return ids
