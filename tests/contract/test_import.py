"""Imports into each kind of stores, and what they refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exports import EDITS, rewritten
from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    Existing,
    ImportPlan,
    InvalidExport,
    Priority,
    RequestStatus,
    Stores,
    StoreUnavailable,
    TransferProgress,
    ValidationError,
    WorkerRow,
    WorkersRunning,
    export_tables,
    import_tables,
    memory_stores,
)
from streamer_store.engine import Put
from streamer_store.schema import REQUESTS, TABLES, WORKERS, Table
from streamer_store.values import Item
from support import START, ManualClock
from transfers import Items, all_items, canonical, fill

pytestmark = pytest.mark.anyio
# The other kinds of stores differ in nothing that matters here, and take a minute.
KINDS = ["memory", pytest.param("local", marks=pytest.mark.local)]

on_stores = pytest.mark.parametrize("stores", KINDS, indirect=True)


@pytest.fixture
async def source(clock: ManualClock) -> Stores:
    """Give stores with items, to export."""
    stores = memory_stores(clock=clock)
    await fill(stores, 130)
    return stores


@pytest.fixture
async def export(source: Stores, tmp_path: Path, clock: ManualClock) -> Path:
    """Give an export of the items of `source`."""
    await export_tables(source, tmp_path / "e", part_bytes=1000, clock=clock)
    return tmp_path / "e"


@on_stores
async def test_empty_tables_become_equal(
    stores: Stores, source: Stores, export: Path, clock: ManualClock
) -> None:
    """Every item has the same attributes, also those that no release knows."""
    imported = await import_tables(stores, export, clock=clock)
    assert canonical(await all_items(stores)) == canonical(await all_items(source))
    assert imported.written == sum(map(len, (await all_items(source)).values()))
    assert (imported.unchanged, imported.replaced, imported.refused) == (0, 0, 0)


@on_stores
async def test_the_same_import_again_changes_nothing(
    stores: Stores, source: Stores, export: Path, clock: ManualClock
) -> None:
    """Equal items are done already, also the row of a worker whose heartbeat is recent."""
    first = await import_tables(stores, export, clock=clock)
    again = await import_tables(stores, export, clock=clock)
    assert (again.written, again.unchanged) == (0, first.written)
    assert canonical(await all_items(stores)) == canonical(await all_items(source))


async def _with_a_difference(stores: Stores, export: Path, clock: ManualClock) -> None:
    """Import, and then cancel one request and delete another."""
    await import_tables(stores, export, clock=clock)
    await stores.requests.cancel("r-00007")
    await stores.engine.delete_many(REQUESTS, ["r-00008"])


@on_stores
async def test_items_that_differ_are_refused_before_anything_is_written(
    stores: Stores, export: Path, clock: ManualClock
) -> None:
    """The error names them and how many they are."""
    await _with_a_difference(stores, export, clock)
    before = await all_items(stores)
    with pytest.raises(AlreadyExists, match=r"differ: 1 \(.*requests/r-00007\)\. Nothing was"):
        await import_tables(stores, export, clock=clock)
    assert canonical(await all_items(stores)) == canonical(before)


@on_stores
async def test_items_that_differ_are_kept_with_skip(
    stores: Stores, export: Path, clock: ManualClock
) -> None:
    """What is missing is written."""
    await _with_a_difference(stores, export, clock)
    imported = await import_tables(stores, export, existing=Existing.SKIP, clock=clock)
    assert (imported.written, imported.skipped, imported.replaced) == (1, 1, 0)
    assert (await stores.requests.get("r-00007")).status is RequestStatus.CANCELLED


@on_stores
async def test_items_that_differ_are_overwritten_with_replace(
    stores: Stores, source: Stores, export: Path, clock: ManualClock
) -> None:
    """Requests are compared by their Version, and other items by all attributes."""
    await _with_a_difference(stores, export, clock)
    clock.advance(60)
    await stores.connections.update_last_ping("c-1")
    await stores.engine.put(Put(table=REQUESTS, item={"RequestID": {"S": "odd"}}))
    imported = await import_tables(stores, export, existing=Existing.REPLACE, clock=clock)
    assert (imported.written, imported.skipped, imported.replaced) == (1, 0, 3)
    assert canonical(await all_items(stores)) == canonical(await all_items(source))


class Racing:
    """An engine on which others write an item just before an import writes or reads it."""

    def __init__(self, stores: Stores, others: Callable[[Put], Put | None]) -> None:
        self._engine = stores.engine
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def put(self, put: Put) -> None:
        other = self._others(put)
        if other is not None:
            await self._engine.put(other)
        await self._engine.put(put)

    async def get_many(self, table: Table, keys: Sequence[str]) -> list[Item]:
        for key in keys:
            other = self._others(Put(table=table, item={table.hash_key: {"S": key}}))
            if other is not None:
                await self._engine.put(other)
        return await self._engine.get_many(table, keys)


@on_stores
@pytest.mark.parametrize("with_workers", [False, True])
@pytest.mark.parametrize(
    ("existing", "counts"),
    [(Existing.REFUSE, (0, 0, 1)), (Existing.SKIP, (1, 0, 0)), (Existing.REPLACE, (0, 1, 0))],
)
async def test_what_others_write_meanwhile_is_treated_as_what_existed(
    stores: Stores,
    export: Path,
    clock: ManualClock,
    existing: Existing,
    counts: tuple[int, int, int],
    *,
    with_workers: bool,
) -> None:
    """Both ways to write find it. The result names what was refused."""
    written: list[str] = []

    def others(put: Put) -> Put | None:
        if put.key != "r-00003" or written:
            return None
        written.append(put.key)
        return Put(table=REQUESTS, item={**put.item, "Version": {"S": "theirs"}})

    racing: Any = Racing(stores, others)
    imported = await import_tables(
        replace(stores, engine=racing),
        export,
        existing=existing,
        with_workers=with_workers,
        clock=clock,
    )
    assert (imported.skipped, imported.replaced, imported.refused) == counts
    names = (f"{stores.engine.table_name(REQUESTS)}/r-00003",) if imported.refused else ()
    assert imported.refused_keys == names


@on_stores
async def test_a_replacement_never_undoes_a_write_of_the_same_moment(
    stores: Stores, export: Path, clock: ManualClock
) -> None:
    """An item that changes before each attempt is refused in the end, and kept."""
    await _with_a_difference(stores, export, clock)
    versions = iter(range(100))

    def others(put: Put) -> Put | None:
        if put.key != "r-00007":
            return None
        return Put(table=REQUESTS, item={**put.item, "Version": {"S": f"v{next(versions)}"}})

    racing: Any = Racing(stores, others)
    imported = await import_tables(
        replace(stores, engine=racing), export, existing=Existing.REPLACE, clock=clock
    )
    assert (imported.refused, imported.replaced) == (1, 0)
    item = await stores.engine.get(REQUESTS, "r-00007")
    assert item is not None
    assert item["Version"]["S"].startswith("v")


@pytest.mark.parametrize("name", EDITS)
async def test_an_export_that_was_changed_is_refused_before_anything_is_written(
    export: Path, clock: ManualClock, name: str
) -> None:
    """The error names the file, and the line if it is one."""
    problem, edit = EDITS[name]
    edit(export)
    stores = memory_stores(clock=clock)
    with pytest.raises(InvalidExport, match=problem) as raised:
        await import_tables(stores, export, clock=clock)
    assert "\n" not in str(raised.value)
    assert not any((await all_items(stores)).values())


@on_stores
async def test_running_requests_wait_again_if_released(
    stores: Stores, source: Stores, tmp_path: Path, clock: ManualClock
) -> None:
    """They are as `release` leaves them, with a new Version. A second import knows them."""
    low = AsyncRequest(action="b", request_id="low", priority=Priority.LOW)
    await source.requests.enqueue(low)
    claims = await source.requests.dequeue(limit=200)
    assert {"low", "r-00001"} <= {claim.request_id for claim in claims}
    held = next(claim for claim in claims if claim.request_id == "r-00001")
    await source.requests.checkpoint(held, {"at": 7})
    await export_tables(source, tmp_path / "e", clock=clock)
    for claim in claims:
        await source.requests.release(claim)
    imported = await import_tables(stores, tmp_path / "e", release_running=True, clock=clock)
    assert imported.released == len(claims)
    assert _without_versions(await all_items(stores)) == _without_versions(await all_items(source))
    request = await stores.requests.get("r-00001")
    assert (request.status, request.worker_id) == (RequestStatus.PENDING, None)
    assert (request.checkpoint, request.processing_started) == ({"at": 7}, None)
    assert request.version not in {held.version, None}
    assert (await stores.requests.get("low")).status is RequestStatus.SCHEDULED
    clock.advance(60)
    again = await import_tables(stores, tmp_path / "e", release_running=True, clock=clock)
    assert (again.written, again.released, again.refused) == (0, 0, 0)
    claimed = await stores.requests.dequeue(limit=200)
    assert {claim.request_id for claim in claimed} == {claim.request_id for claim in claims}


def _without_versions(items: Items) -> dict[str, list[Any]]:
    for item in items["requests"]:
        if isinstance(item, dict):
            item.pop("Version", None)
    return canonical(items)


@on_stores
async def test_arguments_out_of_range_are_refused(stores: Stores, export: Path) -> None:
    """Nothing is written."""
    for wrong in ({"existing": "merge"}, {"max_write_units": float("nan")}):
        arguments: Any = wrong
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            await import_tables(stores, export, **arguments)
    assert not any((await all_items(stores)).values())


@on_stores
async def test_a_running_fleet_is_not_imported_into(
    stores: Stores, export: Path, clock: ManualClock
) -> None:
    """Its workers are named. With `with_workers` it is."""
    await stores.workers.register(WorkerRow(worker_id="alive", started_at=START))
    with pytest.raises(WorkersRunning, match=r"in the last two minutes: 1 \(alive\)"):
        await import_tables(stores, export, clock=clock)
    assert len((await all_items(stores))["requests"]) == 0
    assert (await import_tables(stores, export, with_workers=True, clock=clock)).written
    clock.advance(600)
    await import_tables(stores, export, clock=clock)


@on_stores
async def test_expired_items_are_counted_before_they_are_written(
    stores: Stores, export: Path, clock: ManualClock
) -> None:
    """DynamoDB will delete them. The plan says so, and which tables are not empty."""
    plans: list[ImportPlan] = []
    await stores.requests.enqueue(AsyncRequest(action="a", request_id="other"))
    clock.advance(timedelta(days=2).total_seconds())
    imported = await import_tables(stores, export, clock=clock, before_write=plans.append)
    (plan,) = plans
    assert plan.expired == imported.expired == 7  # three connections, as many subscriptions, w-1
    assert plan.not_empty == (stores.engine.table_name(REQUESTS),)
    assert plan.items["requests"] == 130


@on_stores
async def test_an_import_that_is_stopped_before_it_writes_changes_nothing(
    stores: Stores, export: Path, clock: ManualClock
) -> None:
    """What `before_write` raises ends the import."""

    def stop(_: ImportPlan) -> None:
        raise StoreUnavailable("stopped")

    with pytest.raises(StoreUnavailable, match="stopped"):
        await import_tables(stores, export, clock=clock, before_write=stop)
    assert not any((await all_items(stores)).values())


@on_stores
async def test_workers_come_last_and_progress_is_reported(
    stores: Stores, export: Path, clock: ManualClock
) -> None:
    """Each step reports all items of each table."""
    reports: list[TransferProgress] = []
    await import_tables(stores, export, clock=clock, on_progress=reports.append)
    last = {(report.step, report.table): report for report in reports}
    assert all(report.items == report.total for report in last.values())
    assert {table for step, table in last if step == "write"} == {table.name for table in TABLES}
    assert list(last)[-1] == ("write", WORKERS.name)


@on_stores
async def test_an_export_of_an_earlier_schema_is_imported(
    stores: Stores, export: Path, clock: ManualClock
) -> None:
    """A table that it does not have stays as it is."""

    def edit(manifest: dict[str, Any]) -> None:
        del manifest["tables"]["workers"]

    rewritten(export, edit)
    shutil.rmtree(export / "workers")
    await import_tables(stores, export, clock=clock)
    assert len((await all_items(stores))["requests"]) == 130
