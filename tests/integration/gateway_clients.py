"""Clients of examples/gateway, and the gateway itself with a worker beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import anyio

from local_gateway import Gateway, open_gateway
from processes import PATIENCE, Process
from streamer_store import Connection, Stores
from support import open_sockets, until_open_sockets

HANDLERS = "streamer_worker.demo.handlers"
ACTIONS = ("charge_card", "echo", "generate_report", "import_rows")
# Sockets to their database that stores keep open (`max_connections` of `open_stores`).
POOL = 50
Real = tuple[Stores, dict[str, str]]


class Client:
    """A WebSocket of a user, and every message that it has received."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.received: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Receive messages up to one of this type with these fields, and return that one."""
        with anyio.fail_after(PATIENCE):
            while True:
                message = json.loads(await self.socket.receive_str())
                self.received.append(message)
                if message["type"] == kind and fields.items() <= message.items():
                    return dict(message)

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a message and return the next one that comes."""
        await self.send(kind, **fields)
        with anyio.fail_after(PATIENCE):
            return dict(json.loads(await self.socket.receive_str()))

    async def request(self, action: str, **payload: Any) -> str:
        """Make a request, and return its id."""
        await self.send("request", action=action, payload=payload)
        return str((await self.until("accepted"))["request_id"])

    async def closed(self) -> int | None:
        """Wait until the server has closed the socket, and return its code."""
        with anyio.fail_after(PATIENCE):
            async for _ in self.socket:
                pass
        return self.socket.close_code


class Clients:
    """Opens clients of a gateway."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session

    async def connect(self, user: str) -> Client:
        url = f"{self.gateway.url}/ws?user={quote(user)}"
        return Client(await self.session.ws_connect(url, max_msg_size=0))


@asynccontextmanager
async def gateway_of(stores: Stores) -> AsyncIterator[Clients]:
    """Run a gateway. At the end it must have left no socket, no connection and no subscription."""
    before = open_sockets()
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        open_gateway(stores, actions=ACTIONS) as gateway,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        yield Clients(gateway, session)
    assert await connections(stores) == []
    assert not await stores.subscriptions.any_exist()
    await until_open_sockets(before + POOL)
    assert len(gateway.sessions) == 0


@asynccontextmanager
async def working_gateway_of(
    real: Real, *, names_gateway: str = "STREAMER_NOTIFIER_MORE_HOSTS", **more: str
) -> AsyncIterator[Clients]:
    """Run a gateway, and a worker that posts to it.

    names_gateway: the setting of the worker that has the URL of the gateway.
    more: further settings of the worker.
    """
    stores, settings = real
    async with gateway_of(stores) as clients:
        settings = settings | {names_gateway: clients.gateway.url} | more
        with Process("run", "--handlers", HANDLERS, **settings) as worker:
            worker.event("worker_started")
            yield clients


async def connections(stores: Stores) -> list[Connection]:
    return [each async for each in stores.connections.list_all()]


async def until_connections(stores: Stores, count: int) -> list[Connection]:
    """Wait until there are so many rows, and return them."""
    with anyio.fail_after(PATIENCE):
        while len(found := await connections(stores)) != count:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    return found
