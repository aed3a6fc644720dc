"""Exports and imports that are killed at any moment, and run again: real processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio import to_thread

from processes import PATIENCE, command, environment
from streamer_store import AsyncRequest, Stores, export_tables, import_tables, open_stores
from streamer_store.schema import TABLES
from streamer_store.transfer.exporting import DEFAULT_SEGMENTS
from support import client_of, unique_prefix
from transfers import all_items, checksum, exported_items, fill

pytestmark = [pytest.mark.anyio, pytest.mark.local]
_CHILD: Final = Path(__file__).with_name("transfer_child.py")
_KILLS: Final = 5
_REQUESTS: Final = 800
_CHARS: Final = 6_000
"""Each segment then has several pages."""
_PER_SECOND: Final = 50


@asynccontextmanager
async def _stores(url: str) -> AsyncIterator[tuple[Stores, str]]:
    """Give empty tables, which are deleted at the end."""
    prefix = unique_prefix()
    async with open_stores(endpoint_url=url, prefix=prefix) as stores:
        await stores.create_tables()
        try:
            yield stores, prefix
        finally:
            for table in TABLES:
                await client_of(stores.engine).delete_table(TableName=prefix + table.name)


async def _run(action: str, url: str, prefix: str, target: Path, step: int) -> int:
    """Run the child. Return its number of steps, or 0 if it was killed."""
    arguments = [sys.executable, str(_CHILD), action, url, prefix, str(target), str(step)]
    ended = await to_thread.run_sync(
        lambda: subprocess.run(  # noqa: S603
            arguments,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    )
    if step and ended.returncode == -signal.SIGKILL:
        return 0
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


async def _command(*arguments: str, settings: dict[str, str]) -> None:
    """Run a command that must succeed, while the event loop goes on."""
    ended = await to_thread.run_sync(lambda: command(*arguments, **settings))
    assert ended.returncode == 0, ended.stderr


def _points(seed: str, steps: int) -> Sequence[int]:
    """Return steps to kill at. The last ones are left out: few runs have the same number."""
    return random.Random(seed).sample(range(1, steps - steps // 8), _KILLS)


async def test_an_export_that_is_killed_at_any_step_is_finished_by_the_next_run(
    local_url: str, tmp_path: Path
) -> None:
    """After each kill there is no whole export, or a right one. The next run makes it right."""
    async with _stores(local_url) as (stores, prefix):
        await fill(stores, _REQUESTS, chars=_CHARS)
        expected = checksum(await all_items(stores))
        steps = await _run("export", local_url, prefix, tmp_path / "whole", 0)
        assert checksum(exported_items(tmp_path / "whole")) == expected
        # An interrupted segment goes on after its last part only if it has several.
        assert len(list((tmp_path / "whole" / "requests").iterdir())) > 2 * DEFAULT_SEGMENTS
        killed = 0
        for point in _points("export", steps):
            target = tmp_path / f"killed-{point}"
            killed += not await _run("export", local_url, prefix, target, point)
            await _run("export", local_url, prefix, target, 0)
            assert checksum(exported_items(target)) == expected, point
            left = {path.name for path in target.rglob("*") if path.is_file()}
            assert "manifest.json" in left
            assert {name for name in left if not name.endswith(".json.gz")} == {"manifest.json"}
        assert killed == _KILLS
        async with _stores(local_url) as (copy, _):
            await import_tables(copy, target)
            assert checksum(await all_items(copy)) == expected


async def test_an_import_that_is_killed_at_any_call_is_finished_by_the_next_run(
    local_url: str, tmp_path: Path
) -> None:
    """The tables are then equal to those that were exported."""
    async with _stores(local_url) as (stores, _):
        await fill(stores, _REQUESTS, chars=_CHARS)
        expected = checksum(await all_items(stores))
        await export_tables(stores, tmp_path / "e", part_bytes=4_000)
    async with _stores(local_url) as (copy, prefix):
        steps = await _run("import", local_url, prefix, tmp_path / "e", 0)
        assert checksum(await all_items(copy)) == expected
    killed = 0
    for point in _points("import", steps):
        async with _stores(local_url) as (copy, prefix):
            killed += not await _run("import", local_url, prefix, tmp_path / "e", point)
            settings = {"STREAMER_ENDPOINT_URL": local_url, "STREAMER_TABLE_PREFIX": prefix}
            await _command("import", str(tmp_path / "e"), "--yes", settings=settings)
            assert checksum(await all_items(copy)) == expected, point
    assert killed == _KILLS


async def test_an_export_beside_live_load_has_everything_that_was_there(
    local_url: str, tmp_path: Path
) -> None:
    """Requests are enqueued, claimed and completed meanwhile, fifty each second."""
    async with _stores(local_url) as (stores, prefix):
        await stores.requests.enqueue_many(
            AsyncRequest(action="a", request_id=f"before-{number}", payload={"n": number})
            for number in range(_REQUESTS)
        )
        settings = {"STREAMER_ENDPOINT_URL": local_url, "STREAMER_TABLE_PREFIX": prefix}
        settled = 0

        async def work() -> None:
            nonlocal settled
            while True:
                started = datetime.now(UTC)
                await stores.requests.enqueue(AsyncRequest(action="a"))
                for claim in await stores.requests.dequeue(1):
                    await stores.requests.complete(claim, {"ok": True})
                    settled += 1
                spent = (datetime.now(UTC) - started).total_seconds()
                await anyio.sleep(max(0.0, 1 / _PER_SECOND - spent))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            limit = ("--max-read-units", "100")
            await _command("export", str(tmp_path / "e"), *limit, settings=settings)
            tasks.cancel_scope.cancel()
        assert settled > 0
        ids = [item["RequestID"]["S"] for item in exported_items(tmp_path / "e")["requests"]]
        assert len(set(ids)) == len(ids)
        assert {f"before-{number}" for number in range(_REQUESTS)} <= set(ids)
