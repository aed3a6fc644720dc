"""Four tables with items on moto, and clients for their backups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from integration.proxy import Forward, operation_of
from streamer_store import AsyncRequest, EventType, Stores, WorkerRow, open_stores
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.connecting import open_checked_client
from streamer_store.schema import TABLES
from support import client_of, connection, unique_prefix


@dataclass(frozen=True)
class Deployment:
    """Four tables. `calls` is the client under test."""

    url: str
    prefix: str
    stores: Stores
    client: Any
    calls: CheckedClient

    def names(self, prefix: str | None = None) -> list[str]:
        return [(self.prefix if prefix is None else prefix) + table.name for table in TABLES]

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
async def deployment(url: str) -> AsyncIterator[Deployment]:
    """Create four tables, with an item or more in each."""
    prefix = unique_prefix()
    async with (
        open_stores(endpoint_url=url, prefix=prefix, batch_writes=False) as stores,
        open_checked_client(endpoint_url=url, region=None) as calls,
    ):
        await stores.create_tables()
        await fill(stores)
        yield Deployment(url, prefix, stores, client_of(stores.engine), calls)


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
