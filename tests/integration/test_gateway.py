"""The example of a gateway, with a worker on DynamoDB Local and the WebSockets of clients."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import aiohttp
import anyio
import pytest

from integration.gateway import LONG_AGO
from integration.gateway_clients import (
    POOL,
    Client,
    Real,
    connections,
    gateway_of,
    until_connections,
    working_gateway_of,
)
from processes import PATIENCE, ROOT, Process, page
from streamer_store import AsyncRequest
from streamer_worker.settings import NotifierSettings
from support import connection, open_sockets, until_open_sockets

pytestmark = [pytest.mark.anyio, pytest.mark.local]
_GREETER = """
from streamer_worker import handler

@handler("greet")
async def greet(payload, ctx):
    await ctx.send({"hello": payload["name"]})
"""
MANY = 500
# Connections of the worker to the gateway, at the most.
POSTS = NotifierSettings().max_concurrent_posts


async def test_a_request_is_followed_to_its_end(real: Real) -> None:
    """The client gets progress and the result. Its row is there while it is connected."""
    stores, _ = real
    async with working_gateway_of(real) as clients:
        ada = await clients.connect("ada")
        (row,) = await connections(stores)
        assert (row.user_id, row.endpoint) == ("ada", clients.gateway.url.replace("http", "ws"))
        request_id = await ada.request("generate_report", pages=5)
        await ada.until("progress", request_id=request_id)
        end = await ada.until("complete", request_id=request_id)
        assert end["result"] == {"pages": 5}
        declined = await ada.request("charge_card", card="1")
        end = await ada.until("error", request_id=declined)
        assert end["error"]["code"] == "CARD_DECLINED"
        await ada.socket.close()
        await until_connections(stores, 0)


async def test_a_reload_in_mid_request_finds_it_again(real: Real) -> None:
    """The page reads its requests, and subscribes to those that run."""
    stores, _ = real
    async with working_gateway_of(real) as clients:
        before = await clients.connect("ada")
        # Longer than the 5 s for which the worker remembers to whom it sends progress.
        request_id = await before.request("import_rows", rows=40)
        await before.until("progress")
        await before.socket.close()
        after = await clients.connect("ada")
        state = await after.ask("read", request_id=request_id)
        assert (state["type"], state["status"]) == ("state", "PROCESSING")
        await after.send("subscribe", request_id=request_id)
        await after.until("subscribed")
        await after.until("progress", request_id=request_id)
        await after.until("complete", request_id=request_id)
        state = await after.ask("read", request_id=request_id)
        assert (state["status"], state["result"]) == ("COMPLETED", {"first_row": 1})
        (row,) = await until_connections(stores, 1)
        await after.send("unsubscribe", request_id=request_id)
        await after.until("unsubscribed")
        assert await stores.subscriptions.get_by_connection(row.connection_id) == []


async def test_two_tabs_of_a_user_see_the_same_request(real: Real) -> None:
    """A tab that closes takes nothing from the other."""
    async with working_gateway_of(real) as clients:
        first, second = await clients.connect("ada"), await clients.connect("ada")
        request_id = await first.request("import_rows", rows=40)
        await second.send("subscribe", request_id=request_id)
        await second.until("subscribed")
        await second.until("progress", request_id=request_id)
        await first.socket.close()
        await second.until("complete", request_id=request_id)


async def test_nobody_sees_the_request_of_another_user(real: Real) -> None:
    """It is answered as one that does not exist, and no message about it arrives."""
    async with working_gateway_of(real) as clients:
        ada, grace = await clients.connect("ada"), await clients.connect("grace")
        request_id = await ada.request("generate_report", pages=3)
        for kind in ("read", "subscribe"):
            others = await grace.ask(kind, request_id=request_id)
            missing = await grace.ask(kind, request_id="missing")
            assert others["code"] == "NOT_FOUND"
            assert others == missing | {"request_id": request_id}
        await ada.until("complete", request_id=request_id)
        own = await grace.request("echo", number=2)
        await grace.until("complete", request_id=own)
        assert {message["request_id"] for message in grace.received} == {own}


async def test_rows_of_a_gateway_that_was_killed_are_deleted(real: Real) -> None:
    """The worker does it, when the next gateway answers its post with 410."""
    stores, _ = real
    async with working_gateway_of(real) as clients:
        endpoint = clients.gateway.url.replace("http", "ws")
        await stores.connections.save(connection("a/b=", connected_at=LONG_AGO, endpoint=endpoint))
        await stores.requests.enqueue(AsyncRequest(action="echo", connection_id="a/b="))
        await until_connections(stores, 0)


async def test_hundreds_of_clients_are_all_informed(real: Real) -> None:
    """Each makes a request and gets its own result. Nothing is left when they have gone."""
    stores, _ = real
    async with working_gateway_of(real) as clients:
        before = open_sockets()
        opened: list[Client] = []

        async def use(number: int) -> None:
            client = await clients.connect(f"user {number}")
            opened.append(client)
            request_id = await client.request("echo", number=number)
            end = await client.until("complete", request_id=request_id)
            assert end["result"] == {"number": number}

        with anyio.fail_after(2 * PATIENCE):
            async with anyio.create_task_group() as tasks:
                for number in range(MANY):
                    tasks.start_soon(use, number)
        assert len(clients.gateway.sessions) == len(opened) == MANY
        assert len(await until_connections(stores, MANY)) == MANY
        for client in opened:
            await client.socket.close()
        await until_connections(stores, 0)
        await until_open_sockets(before + POOL + POSTS)


async def test_a_thousand_clients_connect_at_once(real: Real) -> None:
    """All are accepted, and all are closed when the gateway stops, which deletes their rows."""
    stores, _ = real
    opened: list[Client] = []
    async with gateway_of(stores) as clients:

        async def connect(number: int) -> None:
            opened.append(await clients.connect(f"user {number}"))

        with anyio.fail_after(2 * PATIENCE):
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(connect, number)
        assert len(clients.gateway.sessions) == 1000
        await until_connections(stores, 1000)


async def test_the_program_runs_until_ctrl_c() -> None:
    """It serves the page, runs requests, and ends with its worker and its database."""
    program = str(ROOT / "examples" / "gateway" / "run.py")
    with Process(program, "--port", "0", executable=sys.executable) as process:
        url = await anyio.to_thread.run_sync(process.found, r"^Open (http://\S+) ")
        html = await anyio.to_thread.run_sync(page, url)
        assert "<title>Streamer gateway</title>" in html
        async with aiohttp.ClientSession() as session:
            client = Client(await session.ws_connect(f"{url}/ws?user=ada"))
            request_id = await client.request("echo", number=1)
            end = await client.until("complete", request_id=request_id)
            assert end["result"] == {"number": 1}
            process.signal(signal.SIGINT)
            assert await client.closed() == 1001
        assert await anyio.to_thread.run_sync(process.ended) == 0
    assert not any("Traceback" in line for line in process.lines)


async def test_the_program_runs_handlers_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the current directory. Their own messages reach the page's client."""
    (tmp_path / "greeter.py").write_text(_GREETER)
    monkeypatch.chdir(tmp_path)
    program = str(ROOT / "examples" / "gateway" / "run.py")
    arguments = ("--port", "0", "--handlers", "greeter:greet")
    with Process(program, *arguments, executable=sys.executable) as process:
        url = await anyio.to_thread.run_sync(process.found, r"^Open (http://\S+) ")
        async with aiohttp.ClientSession() as session:
            client = Client(await session.ws_connect(f"{url}/ws?user=ada"))
            request_id = await client.request("greet", name="Ada")
            sent = await client.until("message", request_id=request_id)
            assert sent["data"] == {"hello": "Ada"}
            await client.until("complete", request_id=request_id)
            refused = await client.ask("request", action="echo", payload={})
            assert refused["code"] == "UNKNOWN_ACTION"


def test_the_program_says_that_its_port_is_in_use() -> None:
    """It says what to do, and ends with exit code 1."""
    program = str(ROOT / "examples" / "gateway" / "run.py")
    with Process(program, "--port", "0", executable=sys.executable) as first:
        port = first.found(r"^Open http://127.0.0.1:(\d+) ")
        with Process(program, "--port", port, executable=sys.executable) as second:
            assert second.found("Choose another port with --port")
            assert second.ended() == 1
