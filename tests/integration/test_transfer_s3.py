"""Exports to a bucket of S3, on moto's server, and imports from it."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from aiobotocore.session import get_session
from aiohttp import web
from anyio import to_thread

from dynamodb_local import free_port
from integration.desk import Desk, desk
from processes import command
from streamer_store import (
    AccessDenied,
    AlreadyExists,
    ConcurrentModification,
    InvalidExport,
    InvalidInput,
    Stores,
    TargetFailed,
    TransferProgress,
    export_tables,
    import_tables,
    memory_stores,
)
from streamer_store.dynamo.bucket import Bucket, open_bucket
from streamer_store.schema import REQUESTS
from streamer_store.transfer.exporting import Exporter
from support import ManualClock, unique_prefix
from transfers import all_items, canonical, checksum, fill

__all__ = ["desk"]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Give a client of S3. The AWS settings name the same endpoint."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_url)
    async with get_session().create_client("s3") as client:
        yield client


@pytest.fixture
async def bucket(client: Any) -> str:
    """Give the name of an empty bucket."""
    name = f"b{unique_prefix()}".rstrip("_")
    await client.create_bucket(Bucket=name)
    return name


@pytest.fixture
async def source(clock: ManualClock) -> Stores:
    """Give stores with items, to export."""
    stores = memory_stores(clock=clock)
    await fill(stores, 250)
    return stores


async def _names(client: Any, bucket: str) -> list[str]:
    page = await client.list_objects_v2(Bucket=bucket)
    return [entry["Key"] for entry in page.get("Contents", ())]


async def test_an_export_is_in_the_bucket_and_back(
    source: Stores, client: Any, bucket: str, clock: ManualClock
) -> None:
    """Only objects under the prefix are read and written."""
    await client.put_object(Bucket=bucket, Key="e-other/photo.jpg", Body=b"x")
    target = f"s3://{bucket}/e/"
    exported = await export_tables(source, target, part_bytes=1000, clock=clock)
    assert exported.target == f"s3://{bucket}/e"
    names = await _names(client, bucket)
    assert {"e/manifest.json", "e-other/photo.jpg"} <= set(names)
    assert len(names) == exported.parts + 2
    copy = memory_stores(clock=clock)
    await import_tables(copy, target, clock=clock)
    assert canonical(await all_items(copy)) == canonical(await all_items(source))
    with pytest.raises(AlreadyExists):
        await export_tables(source, target)


async def test_more_objects_than_a_page_are_listed(client: Any, bucket: str) -> None:
    """S3 lists a thousand at a time."""
    async with anyio.create_task_group() as tasks:
        for number in range(1_001):
            tasks.start_soon(_put, client, bucket, f"e/{number}")
    async with open_bucket(bucket, "e", region=None) as opened, opened.files() as files:
        found = {name async for name, _ in files}
    assert found == {str(number) for number in range(1_001)}


async def _put(client: Any, bucket: str, key: str) -> None:
    await client.put_object(Bucket=bucket, Key=key, Body=b"")


class _Stop(Exception):
    """Ends an export in the middle."""


async def _interrupted(source: Stores, target: str) -> None:
    def stop(progress: TransferProgress) -> None:
        if progress.table == "requests" and progress.items >= 200:
            raise _Stop

    with pytest.raises(BaseException) as raised:  # noqa: PT011  a group of _Stop
        await export_tables(source, target, part_bytes=1, on_progress=stop)
    assert raised.group_contains(_Stop)


async def test_an_interrupted_export_goes_on(
    source: Stores, client: Any, bucket: str, clock: ManualClock
) -> None:
    """A part that was written and not recorded is removed."""
    target = f"s3://{bucket}/e"
    await _interrupted(source, target)
    with pytest.raises(InvalidExport, match="the export is not finished"):
        await import_tables(memory_stores(clock=clock), target)
    await client.put_object(Bucket=bucket, Key="e/requests/00-0099-0a0b0c0d.json.gz", Body=b"x")
    assert (await export_tables(source, target)).resumed
    copy = memory_stores(clock=clock)
    await import_tables(copy, target, clock=clock)
    assert canonical(await all_items(copy)) == canonical(await all_items(source))


class _Held:
    """An engine whose scans of requests wait."""

    def __init__(self, stores: Stores) -> None:
        self._engine = stores.engine
        self.reached = anyio.Event()
        self.go_on = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def scan(self, scan: Any) -> Any:
        if scan.table is REQUESTS and scan.exclusive_start_key is not None:
            self.reached.set()
            await self.go_on.wait()
        return await self._engine.scan(scan)


async def test_the_second_of_two_exports_takes_over(
    source: Stores, bucket: str, clock: ManualClock
) -> None:
    """S3 has no locks. The first export is stopped by its next write, and leaves nothing."""
    target = f"s3://{bucket}/e"
    held = _Held(source)
    engine: Any = held
    first: list[ConcurrentModification] = []

    async def export_slowly() -> None:
        try:
            await export_tables(replace(source, engine=engine), target, segments=1, part_bytes=1)
        except ConcurrentModification as error:
            first.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(export_slowly)
        await held.reached.wait()
        await export_tables(source, target)
        held.go_on.set()
    assert f"another export writes to {target}" in str(first[0])
    copy = memory_stores(clock=clock)
    await import_tables(copy, target, clock=clock)
    assert canonical(await all_items(copy)) == canonical(await all_items(source))


async def test_a_part_that_the_first_export_records_in_time_is_kept(
    source: Stores, client: Any, bucket: str
) -> None:
    """The second export lists it as a stray. It removes strays only after it has taken over."""
    await _interrupted(source, f"s3://{bucket}/e")
    part = "e/requests/00-0099-0a0b0c0d.json.gz"
    await client.put_object(Bucket=bucket, Key=part, Body=b"x")

    class Recording(Bucket):
        """A bucket in which the first export records its part after the list was read."""

        @asynccontextmanager
        async def files(self) -> AsyncIterator[AsyncIterator[tuple[str, int]]]:
            async with super().files() as files:
                yield files
            await client.put_object(Bucket=bucket, Key="e/progress.json", Body=b"recorded")

    exporter = Exporter(
        engine=source.engine,
        target=Recording(client, bucket=bucket, prefix="e", name="here"),
        clock=ManualClock(),
        rng=random.Random(7),
        segments=None,
        part_bytes=1,
        max_read_units=None,
        on_progress=lambda _: None,
    )
    with pytest.raises(ConcurrentModification):
        await exporter.run()
    assert part in await _names(client, bucket)


async def test_two_exports_that_begin_together_do_not_mix(
    source: Stores, bucket: str, clock: ManualClock
) -> None:
    """One of them is whole."""
    target = f"s3://{bucket}/e"
    failed: list[Exception] = []

    async def export() -> None:
        try:
            await export_tables(source, target, part_bytes=1)
        except (ConcurrentModification, AlreadyExists, InvalidInput) as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(export)
    assert len(failed) == 2
    copy = memory_stores(clock=clock)
    await import_tables(copy, target, clock=clock)
    assert canonical(await all_items(copy)) == canonical(await all_items(source))


async def test_a_lost_answer_is_not_another_export(client: Any, bucket: str) -> None:
    """The client repeats a conditional write, and finds its own object."""
    async with open_bucket(bucket, "e", region=None) as opened:
        await opened.write("progress.json", b"1", fenced=True)
        # What the first copy of the next write has done, before its answer was lost.
        await client.put_object(Bucket=bucket, Key="e/progress.json", Body=b"2")
        await opened.write("progress.json", b"2", fenced=True)
        await opened.write("progress.json", b"3", fenced=True)
        await client.put_object(Bucket=bucket, Key="e/progress.json", Body=b"theirs")
        for _ in range(2):
            with pytest.raises(ConcurrentModification):
                await opened.write("progress.json", b"4", fenced=True)
        with pytest.raises(ConcurrentModification):
            await opened.delete("progress.json", fenced=True)


@pytest.mark.usefixtures("client")
async def test_a_bucket_that_is_missing_is_one_error(source: Stores) -> None:
    """For both directions."""
    with pytest.raises(TargetFailed, match=r"^s3://no-such-bucket/e: there is no such bucket"):
        await export_tables(source, "s3://no-such-bucket/e")
    with pytest.raises(TargetFailed, match="there is no such bucket"):
        await import_tables(source, "s3://no-such-bucket/e")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(403, "AccessDenied", AccessDenied), (400, "InvalidRequest", TargetFailed)],
)
async def test_what_s3_refuses_is_one_error(
    source: Stores, monkeypatch: pytest.MonkeyPatch, status: int, code: str, kind: type[Exception]
) -> None:
    """The error has the words of S3, and the name of the target."""

    async def refuse(_: web.Request) -> web.Response:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        return web.Response(status=status, text=body, content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{key:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    try:
        with pytest.raises(kind, match=f"^s3://bucket/e: {code}: no"):
            await export_tables(source, "s3://bucket/e")
    finally:
        await runner.cleanup()


async def test_a_server_that_does_not_answer_is_one_error(
    source: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens at the endpoint."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TargetFailed, match=r"^s3://bucket/e: Could not connect"):
        await export_tables(source, "s3://bucket/e")


async def test_the_commands_take_an_address_in_s3(desk: Desk, bucket: str, moto_url: str) -> None:
    """As they take a directory."""
    settings = desk.settings | {"AWS_ENDPOINT_URL_S3": moto_url}

    def run(*arguments: str, **more: str) -> Any:
        ended = command(*arguments, f"s3://{bucket}/e", "--json", **(settings | more))
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    await to_thread.run_sync(lambda: desk.do(lambda stores: fill(stores, 30)))
    before = await to_thread.run_sync(lambda: desk.do(all_items))
    await to_thread.run_sync(run, "export")
    other = Desk(moto_url)
    await to_thread.run_sync(lambda: other.do(lambda stores: stores.create_tables()))
    prefix = other.settings["STREAMER_TABLE_PREFIX"]
    imported = await to_thread.run_sync(lambda: run("import", STREAMER_TABLE_PREFIX=prefix))
    assert imported["written"] == 37
    assert checksum(await to_thread.run_sync(lambda: other.do(all_items))) == checksum(before)
