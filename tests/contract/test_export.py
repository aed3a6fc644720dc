"""Exports of each kind of stores, and what they refuse."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamer_store import (
    AlreadyExists,
    ConcurrentModification,
    InvalidExport,
    InvalidInput,
    Stores,
    TargetFailed,
    TransferProgress,
    ValidationError,
    export_tables,
)
from streamer_store.schema import REQUESTS, TABLES
from transfers import all_items, canonical, exported_items, fill, names_in

pytestmark = pytest.mark.anyio
# The other kinds of stores differ in nothing that matters here, and take a minute.
KINDS = ["memory", pytest.param("local", marks=pytest.mark.local)]

on_stores = pytest.mark.parametrize("stores", KINDS, indirect=True)


@on_stores
async def test_every_item_of_each_table_is_in_the_export(stores: Stores, tmp_path: Path) -> None:
    """Items of all types, and attributes that no release knows, are as they were."""
    await fill(stores, 120)
    exported = await export_tables(stores, tmp_path / "e", part_bytes=2_000)
    stored = await all_items(stores)
    assert exported.items == {name: len(items) for name, items in stored.items()}
    assert canonical(exported_items(tmp_path / "e")) == canonical(stored)
    assert exported.parts > len(TABLES)
    assert not exported.resumed


@on_stores
async def test_the_files_are_those_of_dynamodb_and_private(stores: Stores, tmp_path: Path) -> None:
    """Each line has one Item, with binary values in base64. Only the owner can read the files."""
    await fill(stores, 3)
    await export_tables(stores, tmp_path / "e")
    folder = tmp_path / "e"
    lines = [
        json.loads(line)
        for path in folder.glob("requests/*.json.gz")
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert {frozenset(line) for line in lines} == {frozenset({"Item"})}
    assert {"B": "AP8="} in [line["Item"].get("Blob") for line in lines]
    assert {path.stat().st_mode & 0o77 for path in [folder, *folder.rglob("*")]} == {0}
    assert names_in(folder) == [
        *("connections", "manifest.json", "requests", "subscriptions", "workers"),
    ]


@on_stores
async def test_empty_tables_are_a_whole_export(stores: Stores, tmp_path: Path) -> None:
    """It has a manifest and no parts."""
    exported = await export_tables(stores, tmp_path / "e")
    assert set(exported.items.values()) == {0}
    assert names_in(tmp_path / "e") == ["manifest.json"]


@on_stores
async def test_progress_counts_the_items_of_each_table(stores: Stores, tmp_path: Path) -> None:
    """The last report of a table has all its items."""
    await fill(stores, 30)
    reports: list[TransferProgress] = []
    exported = await export_tables(stores, tmp_path / "e", on_progress=reports.append)
    assert {report.table: report.items for report in reports} == exported.items


class _Stop(Exception):
    """Ends an export in the middle."""


async def _interrupted(stores: Stores, folder: Path, after: int, **more: Any) -> None:
    """Export until so many requests were read."""

    def stop(progress: TransferProgress) -> None:
        if progress.table == "requests" and progress.items >= after:
            raise _Stop

    with pytest.raises(BaseException) as raised:  # noqa: PT011  a group of _Stop
        await export_tables(stores, folder, on_progress=stop, part_bytes=1, **more)
    assert raised.group_contains(_Stop) or isinstance(raised.value, _Stop)


@on_stores
async def test_an_interrupted_export_goes_on_where_it_was(stores: Stores, tmp_path: Path) -> None:
    """Parts that are written stay, and nothing is there twice."""
    await fill(stores, 300)
    await _interrupted(stores, tmp_path / "e", 250)
    progress = json.loads((tmp_path / "e" / "progress.json").read_text())
    before = {
        path: path.stat().st_mtime_ns
        for segments in progress["tables"].values()
        for segment in segments
        for part in segment["parts"]
        for path in [tmp_path / "e" / part["name"]]
    }
    assert before
    assert not (tmp_path / "e" / "manifest.json").exists()
    exported = await export_tables(stores, tmp_path / "e")
    assert exported.resumed
    assert canonical(exported_items(tmp_path / "e")) == canonical(await all_items(stores))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert not (tmp_path / "e" / "progress.json").exists()


@on_stores
async def test_a_part_that_was_not_recorded_is_removed(stores: Stores, tmp_path: Path) -> None:
    """A crash may come between a part and its record, and in the middle of a file."""
    await fill(stores, 300)
    await _interrupted(stores, tmp_path / "e", 250)
    stray = tmp_path / "e" / "requests" / "00-0099-0a0b0c0d.json.gz"
    stray.write_bytes(b"half")
    (tmp_path / "e" / "requests" / "00-0100-0a0b0c0d.json.gz.unfinished").write_bytes(b"")
    await export_tables(stores, tmp_path / "e")
    assert canonical(exported_items(tmp_path / "e")) == canonical(await all_items(stores))
    assert not list((tmp_path / "e").rglob("*0a0b0c0d*"))


@on_stores
async def test_a_whole_export_is_not_overwritten(stores: Stores, tmp_path: Path) -> None:
    """The error says when it ended."""
    await export_tables(stores, tmp_path / "e")
    with pytest.raises(AlreadyExists, match="has a whole export, of 20"):
        await export_tables(stores, tmp_path / "e")


@on_stores
async def test_an_export_that_only_has_to_be_tidied_is_finished(
    stores: Stores, tmp_path: Path
) -> None:
    """A crash after the manifest leaves progress.json. The next run removes it."""
    await fill(stores, 5)
    await _interrupted(stores, tmp_path / "e", 1)
    progress = (tmp_path / "e" / "progress.json").read_bytes()
    first = await export_tables(stores, tmp_path / "e")
    (tmp_path / "e" / "progress.json").write_bytes(progress)
    second = await export_tables(stores, tmp_path / "e")
    assert (second.items, second.resumed) == (first.items, True)
    assert not (tmp_path / "e" / "progress.json").exists()


@on_stores
async def test_foreign_files_are_refused_and_kept(stores: Stores, tmp_path: Path) -> None:
    """The error names some of them. Nothing is written beside them."""
    (tmp_path / "film.unfinished").write_text("mine")
    (tmp_path / "photos").mkdir()
    with pytest.raises(InvalidInput, match=r"film\.unfinished, photos/: choose an empty target"):
        await export_tables(stores, tmp_path)
    assert names_in(tmp_path) == ["film.unfinished", "photos"]


@on_stores
async def test_other_segments_and_tables_do_not_continue_an_export(
    stores: Stores, tmp_path: Path
) -> None:
    """Segments of another number have other items, and tables of another prefix too."""
    await fill(stores, 300)
    await _interrupted(stores, tmp_path / "e", 250, segments=2)
    with pytest.raises(InvalidInput, match="with 2 segments, not 3"):
        await export_tables(stores, tmp_path / "e", segments=3)
    path = tmp_path / "e" / "progress.json"
    path.write_text(path.read_text().replace('"is_done": false', '"is_done": true'))
    with pytest.raises(InvalidExport, match="checksum does not match"):
        await export_tables(stores, tmp_path / "e")


@on_stores
async def test_two_exports_into_a_directory_do_not_mix(stores: Stores, tmp_path: Path) -> None:
    """The second one is refused while the first one runs, and the first one is whole."""
    await fill(stores, 50)
    second: list[Exception] = []
    began = anyio.Event()
    ended = anyio.Event()

    def note(_: TransferProgress) -> None:
        began.set()

    async def compete() -> None:
        await began.wait()
        try:
            await export_tables(stores, tmp_path / "e")
        except ConcurrentModification as error:
            second.append(error)
        ended.set()

    class Waiting:
        """An engine whose scans wait for the second export."""

        def __getattr__(self, name: str) -> Any:
            return getattr(stores.engine, name)

        async def scan(self, scan: Any) -> Any:
            page = await stores.engine.scan(scan)
            if scan.table is REQUESTS:
                await ended.wait()
            return page

    waiting: Any = Waiting()
    from dataclasses import replace

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(compete)
        await export_tables(replace(stores, engine=waiting), tmp_path / "e", on_progress=note)
    assert "another export writes to" in str(second[0])
    assert canonical(exported_items(tmp_path / "e")) == canonical(await all_items(stores))


@on_stores
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("", "target: is empty"),
        ("gs://bucket/x", "neither a directory nor s3"),
        ("s3://", "names no bucket"),
        ("s3://A_B/x", "names no bucket"),
    ],
)
async def test_a_target_that_is_none_is_refused(stores: Stores, target: str, problem: str) -> None:
    """The error says what a target is."""
    with pytest.raises(ValidationError, match=problem):
        await export_tables(stores, target)


@on_stores
async def test_arguments_out_of_range_are_refused(stores: Stores, tmp_path: Path) -> None:
    """Nothing is written."""
    for wrong in ({"segments": 0}, {"segments": 65}, {"part_bytes": 0}, {"max_read_units": 0}):
        arguments: Any = wrong
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            await export_tables(stores, tmp_path / "e", **arguments)
    assert not (tmp_path / "e").exists()


@on_stores
async def test_a_target_that_cannot_be_written_is_one_error(stores: Stores, tmp_path: Path) -> None:
    """A file in place of the directory, a folder that does not accept files, a null byte."""
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", "/proc/export", "a\0b"):
        with pytest.raises(TargetFailed, match="cannot write"):
            await export_tables(stores, target)
