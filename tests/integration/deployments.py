"""Four tables with items on moto, and clients for their backups."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, cast

import anyio
import pytest
from aiohttp import web

from integration.proxy import Forward, Proxy, json_body, operation_of, proxy_to, with_body
from streamer_store import (
    AsyncRequest,
    EventType,
    StoreError,
    Stores,
    SystemClock,
    TableNames,
    WorkerRow,
    open_stores,
)
from streamer_store.dynamo import backups, managing, protection, tables
from streamer_store.dynamo.backup_records import Backup
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.connecting import open_checked_client
from streamer_store.errors import leaf_exceptions
from support import client_of, connection, unique_prefix

CLOCK = SystemClock()
NAME = "nightly"


@dataclass(frozen=True)
class Deployment:
    """Four tables. `calls` is the client under test."""

    url: str
    prefix: str
    tables: TableNames
    stores: Stores
    client: Any
    calls: CheckedClient

    def names(self, prefix: str | None = None) -> list[str]:
        return list(self.tables if prefix is None else TableNames.from_prefix(prefix))

    async def items(self, prefix: str | None = None) -> list[Any]:
        """Return the items of each table, in the order of their keys."""
        pages = [await self.client.scan(TableName=name) for name in self.names(prefix)]
        return [sorted(page["Items"], key=str) for page in pages]

    async def existing(self, prefix: str) -> list[str]:
        """Return which tables of a prefix exist."""
        found = []
        for name in self.names(prefix):
            try:
                await self.client.describe_table(TableName=name)
            except self.client.exceptions.ResourceNotFoundException:
                continue
            found.append(name)
        return found


@asynccontextmanager
async def deployment(
    url: str, *, table_names: Mapping[str, str] | None = None
) -> AsyncIterator[Deployment]:
    """Create four tables, with an item or more in each. `table_names`: of tables without prefix."""
    prefix = unique_prefix()
    tables = TableNames.from_prefix(prefix, table_names)
    async with (
        open_stores(
            endpoint_url=url, prefix=prefix, table_names=table_names, batch_writes=False
        ) as stores,
        open_checked_client(endpoint_url=url, region=None) as calls,
    ):
        await stores.create_tables()
        await fill(stores)
        yield Deployment(url, prefix, tables, stores, client_of(stores.engine), calls)


async def fill(stores: Stores) -> None:
    now = datetime.now(UTC)
    await stores.connections.save(connection("c1", connected_at=now, last_ping=now))
    payload = {"text": "é", "n": 1.5, "binary": b"\x00"}
    for number in range(3):
        await stores.requests.enqueue(
            AsyncRequest(action="a", request_id=f"r{number}", connection_id="c1", payload=payload)
        )
    await stores.subscriptions.subscribe("c1", "r1", [EventType.COMPLETE])
    await stores.workers.register(WorkerRow(worker_id="w1", started_at=now))


class Crashing:
    """A client that ends the process after its nth call, which has taken effect."""

    class CrashError(Exception):
        """No StoreError: nothing handles it."""

    def __init__(self, calls: CheckedClient, *, at: int) -> None:
        self._calls = calls
        self._left = at

    @property
    def crashed(self) -> bool:
        return self._left <= 0

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0:
            raise self.CrashError
        answer = await self._calls.call(operation, **arguments)
        if self._left <= 0:
            raise self.CrashError
        return answer


class Denying:
    """A fault of the proxy that answers some operations with an error, and counts down."""

    def __init__(self, fault: Any, *operations: str, times: float = float("inf")) -> None:
        self._fault = fault
        self._operations = operations
        self.left = times

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        if operation_of(request) in self._operations and self.left > 0:
            self.left -= 1
            answer: web.StreamResponse = await self._fault(request, forward)
            return answer
        return await forward()


@pytest.fixture
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backups, managing, protection, tables):
        monkeypatch.setattr(module, "_POLL_INTERVAL", 0.01)


@pytest.fixture
async def here(moto_url: str) -> AsyncIterator[Deployment]:
    async with deployment(moto_url) as made:
        yield made


@pytest.fixture
async def behind(here: Deployment) -> AsyncIterator[tuple[Proxy, CheckedClient]]:
    """Give a proxy, and a client behind it."""
    with proxy_to(here.url) as proxy:
        async with open_checked_client(endpoint_url=proxy.url, region=None) as calls:
            yield proxy, calls


async def make(here: Deployment, name: str = NAME, **options: Any) -> Backup:
    return await backups.create(here.calls, here.tables, name, clock=CLOCK, **options)


async def until_whole(work: Any, calls: CheckedClient) -> int:
    """Run `work` with a crash after its first, second ... call, until a run has no crash.

    A crash before a call is one after the call before it. Return the number of crashes.
    """
    crashes = 0
    while True:
        crashing = Crashing(calls, at=crashes + 1)
        try:
            await work(cast("CheckedClient", crashing), crashes)
        except (Crashing.CrashError, ExceptionGroup) as error:
            if any(not isinstance(leaf, Crashing.CrashError) for leaf in leaf_exceptions(error)):
                raise
        if not crashing.crashed:
            return crashes
        crashes += 1


async def both(work: Any) -> list[Any]:
    """Run two calls at once. Return the result or the StoreError of each."""
    results: list[Any] = []

    async def run() -> None:
        try:
            results.append(await work())
        except StoreError as error:
            results.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(run)
    return results


class Slow:
    """Shows backups as CREATING, and restored tables and indexes as CREATING, so many times."""

    def __init__(self, times: float) -> None:
        self.left = Counter[str]()
        self._times = times

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        if answer.status != HTTPStatus.OK:
            return answer
        body = json_body(answer)
        match operation_of(request):
            case "CreateBackup":
                self._show(body["BackupDetails"], "BackupStatus", body["BackupDetails"])
            case "DescribeBackup":
                details = body["BackupDescription"]["BackupDetails"]
                self._show(details, "BackupStatus", details)
            case "ListBackups":
                for summary in body["BackupSummaries"]:
                    self._show(summary, "BackupStatus", summary)
            case "DescribeTable" if "RestoreSummary" in body.get("Table", {}):
                self._show(body["Table"], "TableStatus", body["Table"])
        return with_body(answer, body)

    def _show(self, key: dict[str, Any], field: str, where: dict[str, Any]) -> None:
        name = key.get("BackupArn") or key["TableName"]
        if self.left[name] < self._times:
            self.left[name] += 1
            where[field] = "CREATING"


class SlowTables(Slow):
    """Shows restored tables as CREATING."""

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        if operation_of(request) == "DescribeTable":
            return await super().__call__(request, forward)
        return await forward()


async def names_of(here: Deployment) -> list[str]:
    return [backup.name for backup in await backups.list_backups(here.calls, here.tables)]
