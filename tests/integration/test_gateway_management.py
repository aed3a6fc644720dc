"""The example of a gateway: its management API, and clients that do not read or leave early."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from integration.gateway_clients import Clients, Real, connections, gateway_of, until_connections
from processes import PATIENCE
from streamer_store import AsyncRequest

pytestmark = [pytest.mark.anyio, pytest.mark.local]
LARGEST = 128 * 1024


@asynccontextmanager
async def management_of(clients: Clients, stage: str) -> AsyncIterator[Any]:
    """Open AWS's client of the management API."""
    async with AioSession().create_client(
        "apigatewaymanagementapi", endpoint_url=clients.gateway.url + stage
    ) as api:
        yield api


@pytest.mark.parametrize("stage", ["", "/prod"])
async def test_the_management_api_answers_as_awss(real: Real, stage: str) -> None:
    """AWS's client posts to a connection, reads it and closes it. Then it is gone."""
    stores, _ = real
    async with gateway_of(stores) as clients, management_of(clients, stage) as api:
        ada = await clients.connect("ada")
        (row,) = await until_connections(stores, 1)
        posted = await api.post_to_connection(ConnectionId=row.connection_id, Data=b'{"type":"x"}')
        assert posted["ResponseMetadata"]["RequestId"]
        assert await ada.until("x") == {"type": "x"}
        got = await api.get_connection(ConnectionId=row.connection_id)
        assert got["Identity"]["SourceIp"] == "127.0.0.1"
        assert got["ConnectedAt"] <= got["LastActiveAt"]
        await api.delete_connection(ConnectionId=row.connection_id)
        assert await ada.closed() == 1000
        await until_connections(stores, 0)
        for connection_id in (row.connection_id, "a/b+c=", "ü#?%2F", ".."):
            with pytest.raises(ClientError) as caught:
                await api.post_to_connection(ConnectionId=connection_id, Data=b"{}")
            assert caught.value.response["Error"]["Code"] == "GoneException"
            for call in (api.get_connection, api.delete_connection):
                with pytest.raises(ClientError, match="GoneException"):
                    await call(ConnectionId=connection_id)


async def test_ids_with_slashes_are_found(real: Real) -> None:
    """Ids are base64, so a caller that does not escape them is noticed on this machine."""
    stores, _ = real
    async with gateway_of(stores) as clients, management_of(clients, "/prod") as api:
        opened = [await clients.connect("ada") for _ in range(50)]
        ids = [session.caller.connection_id for session in clients.gateway.sessions]
        assert any("/" in each for each in ids)
        assert any("+" in each for each in ids)
        for connection_id in ids:
            await api.post_to_connection(ConnectionId=connection_id, Data=b'{"type":"x"}')
        for client in opened:
            await client.until("x")


async def test_posts_that_cannot_be_delivered(real: Real) -> None:
    """A message of more than 128 KB is too large (413), and one that is no text is bad (400)."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        ada = await clients.connect("ada")
        (row,) = await until_connections(stores, 1)
        url = f"{clients.gateway.url}/@connections/{quote(row.connection_id, safe='')}"
        for data, status, kind in (
            (b"x" * (LARGEST + 1), 413, "PayloadTooLargeException"),
            (b"\xff", 400, "BadRequestException"),
        ):
            async with clients.session.post(url, data=data) as answer:
                assert answer.status == status
                assert answer.headers["x-amzn-ErrorType"] == kind
                assert answer.headers["x-amzn-RequestId"]
        largest = json.dumps({"type": "x", "text": "x" * (LARGEST - 100)})
        async with clients.session.post(url, data=largest) as answer:
            assert answer.status == 200
        await ada.until("x")


async def test_a_slow_client_blocks_nobody_and_is_cut_off(real: Real) -> None:
    """A megabyte waits for it at most. Other clients get their messages meanwhile."""
    stores, _ = real
    async with gateway_of(stores) as clients, management_of(clients, "") as api:
        slow = await _open_and_never_read(clients.gateway.url)
        (row,) = await until_connections(stores, 1)
        fast = await clients.connect("grace")
        (other,) = [each for each in await connections(stores) if each.user_id == "grace"]
        data = json.dumps({"type": "x", "text": "x" * 100_000}).encode()

        async def post_to_both() -> None:
            for _ in range(1000):  # the buffers of the sockets take some megabytes
                await api.post_to_connection(ConnectionId=row.connection_id, Data=data)
                await api.post_to_connection(ConnectionId=other.connection_id, Data=data)
                await fast.until("x")

        with pytest.raises(ClientError, match="GoneException"):
            await post_to_both()
        assert len(fast.received) >= 10
        (left,) = await until_connections(stores, 1)
        assert left.user_id == "grace"
        slow.abort()


async def test_a_client_that_asks_and_never_reads_is_cut_off(real: Real) -> None:
    """Its answers wait in the same queue."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        deaf = await _open_and_never_read(clients.gateway.url)
        await until_connections(stores, 1)
        await stores.requests.enqueue(AsyncRequest(action="x", request_id="r1", user_id="ada"))
        (claim,) = await stores.requests.dequeue(1)
        await stores.requests.complete(claim, {"text": "x" * 100_000})
        for _ in range(300):
            deaf.write(_masked('{"type":"read","request_id":"r1"}'))
        await until_connections(stores, 0)
        deaf.abort()


async def test_clients_that_leave_during_their_handshake(real: Real) -> None:
    """No row and no session is left of them, whenever they leave."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        for number in range(50):
            transport, _ = await _begin_handshake(clients.gateway.url)
            await anyio.sleep(number / 5000)  # before, in and after the write of the row
            transport.abort()
        with anyio.fail_after(PATIENCE):
            while len(clients.gateway.sessions):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        await until_connections(stores, 0)


async def _open_and_never_read(url: str) -> asyncio.Transport:
    """Shake hands as a WebSocket client, and leave all that follows in the socket."""
    transport, protocol = await _begin_handshake(url)
    await protocol.upgraded.wait()
    return transport


async def _begin_handshake(url: str) -> tuple[asyncio.Transport, _Deaf]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    transport, protocol = await asyncio.get_running_loop().create_connection(
        _Deaf, parts.hostname, parts.port
    )
    transport.write(
        f"GET /ws?user=ada HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return transport, protocol


class _Deaf(asyncio.Protocol):
    """Reads the answer to the handshake, and nothing more."""

    def __init__(self) -> None:
        self.upgraded = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 101")
        self._transport.pause_reading()
        self.upgraded.set()


def _masked(text: str) -> bytes:
    """Return a text frame of a client of 125 bytes at most, whose mask is zeros."""
    return bytes([0x81, 0x80 + len(text), 0, 0, 0, 0]) + text.encode()
