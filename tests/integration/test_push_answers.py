"""Answers to a post that are not API Gateway's: of proxies, portals and hostile hosts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from integration.gateway import posting
from streamer_worker.push.errors import Gone, PushFailed

pytestmark = pytest.mark.anyio
BODY = b'{"type":"complete","result":{"secret":1}}'


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status} Odd", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


class Host:
    """A server that gives one answer to all, and keeps the received posts."""

    def __init__(self) -> None:
        self.answer = b""
        self.received: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.received.append(head)
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def hosted(context: ssl.SSLContext | None = None) -> AsyncIterator[Host]:
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0, ssl=context)
    host.port = server.sockets[0].getsockname()[1]
    async with server:
        yield host


@pytest.fixture
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with hosted(context) as host:
        yield host


async def post(gateway: Host) -> None:
    async with posting(seconds=2) as poster:
        await poster(f"https://localhost:{gateway.port}/prod", "ok-1", BODY)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, gateway: Host) -> None:
    """A message must not leave the listed hosts, and 307 would forward it."""
    async with hosted() as elsewhere:
        elsewhere.answer = answer(200)
        gateway.answer = answer(status, b"", f"Location: http://127.0.0.1:{elsewhere.port}/")
        with pytest.raises(PushFailed) as failed:
            await post(gateway)
        assert elsewhere.received == []
    assert failed.value.code == "RedirectRefused"
    assert len(gateway.received) == 1


@pytest.mark.parametrize(
    "answer",
    [
        answer(403, b"<html></html>"),
        answer(403, b"[1]"),
        answer(403, b"null"),
        answer(403, b"\xff\xfe"),
        answer(403, b'{"message": [1]}'),
        answer(500, b"abcd", "Content-Encoding: gzip"),
        answer(999),
        answer(304),
        b"no HTTP at all\r\n\r\n",
        b"",
    ],
    ids=str,
)
async def test_an_invalid_answer_is_a_failure(answer: bytes, gateway: Host) -> None:
    """The failure is temporary, so an end is pushed again."""
    gateway.answer = answer
    with pytest.raises(PushFailed):
        await post(gateway)


async def test_410_with_a_request_id_is_gone(gateway: Host) -> None:
    """The body does not matter. API Gateway's answers have a request id."""
    gateway.answer = answer(410, b"<html></html>", "x-amzn-RequestId: abc")
    with pytest.raises(Gone):
        await post(gateway)


async def test_a_410_of_a_proxy_does_not_remove_a_connection(gateway: Host) -> None:
    """Without a request id it is a temporary failure."""
    gateway.answer = answer(410, b"<html></html>")
    with pytest.raises(PushFailed):
        await post(gateway)
