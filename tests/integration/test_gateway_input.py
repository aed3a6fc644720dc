"""The example of a gateway, and what clients and other programs send to it that is wrong."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import anyio
import pytest
from structlog.testing import capture_logs

from integration.gateway_clients import (
    Clients,
    Real,
    connections,
    gateway_of,
    until_connections,
)
from integration.proxy import Proxy
from local_gateway import open_gateway
from streamer_store import NotFound, RequestStatus, open_stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]
LARGEST = 128 * 1024
DEEP = "[" * 40_000


@pytest.mark.parametrize(
    ("frame", "code", "says"),
    [
        ("", "BAD_MESSAGE", "Invalid JSON"),
        ("hello", "BAD_MESSAGE", "Invalid JSON"),
        ("[1]", "BAD_MESSAGE", "object"),
        (DEEP, "BAD_MESSAGE", "recursion"),
        ('{"type":"read","request_id":"\\ud800"}', "BAD_MESSAGE", "Invalid JSON"),
        ("{}", "BAD_MESSAGE", "action: Field required"),
        ('{"type":"dance"}', "BAD_MESSAGE", "'ping', 'request'"),
        ('{"type":"' + "x" * 100_000 + '"}', "BAD_MESSAGE", "xxx"),
        ('{"type":"read"}', "BAD_MESSAGE", "request_id: Field required"),
        ('{"type":"read","request_id":""}', "BAD_MESSAGE", "request_id"),
        ('{"type":"read","request_id":7}', "BAD_MESSAGE", "request_id"),
        ('{"type":"ping","payload":{}}', "BAD_MESSAGE", "payload: Extra"),
        ('{"type":"request","action":"echo","payload":[]}', "BAD_MESSAGE", "payload"),
        ('{"type":"request","action":"format_disk"}', "UNKNOWN_ACTION", "echo"),
        ('{"type":"request","action":"echo","payload":{"n":NaN}}', "INVALID", "payload"),
        ('{"type":"request","action":"echo","payload":{"n":1e999}}', "INVALID", "payload"),
        (
            '{"type":"request","action":"echo","payload":{"n":' + "[" * 60 + "]" * 60 + "}}",
            "INVALID",
            "deep",
        ),
        ('{"type":"subscribe","request_id":"a#b"}', "NOT_FOUND", "no such request"),
    ],
)
async def test_a_wrong_message_is_refused(real: Real, frame: str, code: str, says: str) -> None:
    """The answer is short and says why. The connection stays open, and nothing is enqueued."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        ada = await clients.connect("ada")
        await ada.socket.send_str(frame)
        answer = await ada.until("refused")
        assert answer["code"] == code
        assert says in answer["message"]
        assert len(answer["message"]) <= 300
        assert (await ada.ask("ping"))["type"] == "pong"
        assert (await stores.requests.depth(RequestStatus.PENDING, limit=1)).count == 0


async def test_a_message_without_a_type_is_a_request(real: Real) -> None:
    """As with the Lambda functions of examples/lambda."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        ada = await clients.connect("ada")
        await ada.socket.send_str('{"action":"echo"}')
        assert (await ada.until("accepted"))["action"] == "echo"


async def test_frames_that_are_no_text(real: Real) -> None:
    """A binary frame is refused, and one of a megabyte closes the connection with 1009."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        ada = await clients.connect("ada")
        await ada.socket.send_bytes(b'{"type":"ping"}')
        assert (await ada.until("refused"))["code"] == "BAD_MESSAGE"
        await ada.socket.send_str("x" * 1_000_000)
        assert await ada.closed() == 1009
        await until_connections(stores, 0)


async def test_a_connection_whose_row_is_gone_is_told_to_connect_again(real: Real) -> None:
    """A ping and a request notice it. The socket is closed after the answer."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        for kind, fields in (("ping", {}), ("request", {"action": "echo", "request_id": "r1"})):
            ada = await clients.connect("ada")
            (row,) = await until_connections(stores, 1)
            await stores.connections.delete(row.connection_id)
            answer = await ada.ask(kind, **fields)
            assert answer["code"] == "CONNECTION_GONE"
            assert "connect again" in answer["message"]
            assert await ada.closed() == 4410
        with pytest.raises(NotFound):
            await stores.requests.get("r1")


async def test_a_message_may_be_sent_again(real: Real) -> None:
    """The same request under the same id is one request. The id of any other is refused."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        ada, grace = await clients.connect("ada"), await clients.connect("grace")
        message: dict[str, Any] = {"action": "echo", "payload": {"n": 1.5}, "request_id": "r1"}
        first = await ada.ask("request", **message)
        assert await ada.ask("request", **message) == first
        assert first["type"] == "accepted"
        other = await ada.ask("request", **message | {"payload": {"n": 2}})
        assert other["code"] == "ID_TAKEN"
        assert await grace.ask("request", **message) == other
        assert (await stores.requests.get("r1")).user_id == "ada"


@pytest.mark.parametrize("query", ["", "?user=", "?user=" + "x" * 65, "?user=%00"])
async def test_a_connection_needs_a_user(real: Real, query: str) -> None:
    """It is refused with 401, and no row is stored."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await clients.session.ws_connect(f"{clients.gateway.url}/ws{query}")
        assert caught.value.status == 401
        assert await connections(stores) == []


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}],
)
async def test_pages_of_other_sites_are_refused(real: Real, headers: dict[str, str]) -> None:
    """A browser lets any page connect to this machine, also under another name."""
    stores, _ = real
    async with gateway_of(stores) as clients:
        for path in ("/", "/ws?user=ada", "/@connections/x"):
            url = clients.gateway.url + path
            async with clients.session.get(url, headers=headers) as answer:
                assert answer.status == 403
        own = {"Host": urlsplit(clients.gateway.url).netloc.replace("127.0.0.1", "localhost")}
        async with clients.session.get(clients.gateway.url, headers=own) as answer:
            assert answer.status == 200
        async with clients.session.get(clients.gateway.url + "/ws?user=ada") as answer:
            assert answer.status == 426


async def test_only_workers_may_use_the_name_for_workers(real: Real) -> None:
    """The page and its WebSockets are reached as this machine only. Rows have the name."""
    stores, _ = real
    async with (
        open_gateway(stores, actions=["echo"], post_url="http://gateway:8797") as gateway,
        aiohttp.ClientSession() as session,
    ):
        ada = await Clients(gateway, session).connect("ada")
        (row,) = await until_connections(stores, 1)
        assert row.endpoint == "ws://gateway:8797"
        post = f"{gateway.url}/@connections/{quote(row.connection_id, safe='')}"
        headers = {"Host": "gateway:8797"}
        async with session.post(post, data='{"type":"x"}', headers=headers) as answer:
            assert answer.status == 200
        await ada.until("x")
        for refused in (headers | {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            async with session.post(post, data="{}", headers=refused) as answer:
                assert answer.status == 403
        for path in ("/", "/ws?user=ada"):
            async with session.get(gateway.url + path, headers=headers) as answer:
                assert answer.status == 403


async def test_no_connection_without_the_tables(local_url: str) -> None:
    """The handshake is refused with 503, and the client may try again."""
    async with (
        open_stores(endpoint_url=local_url, prefix="absent_") as stores,
        open_gateway(stores, actions=["echo"]) as gateway,
        aiohttp.ClientSession() as session,
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f"{gateway.url}/ws?user=ada")
        assert caught.value.status == 503
        assert len(gateway.sessions) == 0


async def test_an_outage_of_the_tables_is_answered(real: Real, proxy: Proxy) -> None:
    """The connection survives it. The row of a client that leaves meanwhile is left."""
    stores, settings = real
    prefix = settings["STREAMER_TABLE_PREFIX"]
    async with (
        open_stores(endpoint_url=proxy.url, prefix=prefix, call_timeout=1) as unreliable,
        open_gateway(unreliable, actions=["echo"]) as gateway,
        aiohttp.ClientSession() as session,
    ):
        clients = Clients(gateway, session)
        ada, grace = await clients.connect("ada"), await clients.connect("grace")
        await anyio.to_thread.run_sync(proxy.refuse)
        answer = await ada.ask("request", action="echo", request_id="r1")
        assert (answer["code"], answer["request_id"]) == ("UNAVAILABLE", "r1")
        await grace.socket.close()
        with capture_logs() as logs:
            while not logs:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert logs[0]["event"] == "connection_not_removed"
        await anyio.to_thread.run_sync(proxy.listen)
        assert (await ada.ask("request", action="echo", request_id="r1"))["type"] == "accepted"
        assert len(await connections(stores)) == 2
        await ada.socket.close()
        (left,) = await until_connections(stores, 1)
        assert left.user_id == "grace"
