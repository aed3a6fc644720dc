"""An HTTP proxy in front of DynamoDB that can fail like networks and AWS do."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from anyio.from_thread import BlockingPortal, start_blocking_portal

from support import until_open_sockets

if TYPE_CHECKING:
    from typing import Any

_HOPS: Final = {"Host", "Connection", "Content-Length", "Transfer-Encoding", "Date", "Server"}
_NAMESPACE: Final = "com.amazonaws.dynamodb.v20120810#"
_CLOSING: Final = 0.1  # aiohttp takes 0 for ever

Forward = Callable[[], Awaitable[web.Response]]
# What happens to a call, instead of, before or after it is forwarded.
Fault = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]


async def passing(_request: web.Request, forward: Forward) -> web.StreamResponse:
    return await forward()


async def resetting(request: web.Request, _forward: Forward) -> web.StreamResponse:
    return _reset(request)


async def stalling(_request: web.Request, _forward: Forward) -> web.StreamResponse:
    """Accept the call, and never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def losing_answers(request: web.Request, forward: Forward) -> web.StreamResponse:
    """Forward the call, and drop the answer."""
    await forward()
    return _reset(request)


def losing_every(nth: int) -> Fault:
    """Forward all calls, and drop every nth answer."""
    numbers = itertools.count(1)

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        return answer if next(numbers) % nth else _reset(request)

    return fault


def delaying(seconds: float) -> Fault:
    async def fault(_request: web.Request, forward: Forward) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await forward()

    return fault


def answering(status: int, code: str) -> Fault:
    """Answer every call with this error of AWS."""

    async def fault(_request: web.Request, _forward: Forward) -> web.StreamResponse:
        body = {"__type": _NAMESPACE + code, "message": "injected"}
        headers = {"x-amzn-RequestId": str(uuid.uuid4())}
        return web.json_response(
            body, status=status, headers=headers, content_type="application/x-amz-json-1.0"
        )

    return fault


def operation_of(request: web.Request) -> str:
    return request.headers.get("X-Amz-Target", "").rpartition(".")[2]


def json_body(answer: web.Response) -> dict[str, Any]:
    """Return the body of an answer of DynamoDB."""
    assert isinstance(answer.body, bytes)
    body: dict[str, Any] = json.loads(answer.body)
    return body


def with_body(answer: web.Response, body: dict[str, Any]) -> web.Response:
    """Return an answer of DynamoDB with another body."""
    kept = {
        name: value
        for name, value in answer.headers.items()
        if name.lower() not in {"content-length", "content-type", "x-amz-crc32"}
    }
    return web.json_response(
        body, status=answer.status, headers=kept, content_type="application/x-amz-json-1.0"
    )


def _reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Proxy:
    """Forwards to `target` from a thread of its own, so that a test may block."""

    def __init__(self, portal: BlockingPortal, target: str) -> None:
        self._portal = portal
        self._target = target
        self._runner: web.AppRunner | None = None
        self._socket: socket.socket
        self._session: aiohttp.ClientSession | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.fault: Fault = passing
        self.calls: Counter[str] = Counter()

    def listen(self) -> None:
        self._portal.call(self._listen)

    def refuse(self) -> None:
        """Close the listening socket and all connections."""
        self._portal.call(self._refuse)

    def close(self) -> None:
        self.refuse()
        if self._session is not None:
            self._portal.call(self._session.close)
        self._portal.call(until_open_sockets)

    async def _listen(self) -> None:
        app = web.Application(client_max_size=2**25)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSING)
        await self._runner.setup()
        self._socket = socket.create_server(("127.0.0.1", self._port))
        await web.SockSite(self._runner, self._socket).start()

    async def _refuse(self) -> None:
        if self._runner is not None:
            # asyncio's Server.close loses the sockets that it has accepted in the same iteration.
            asyncio.get_running_loop().remove_reader(self._socket)
            for _ in range(2):  # their tasks begin, and aiohttp learns of them
                await asyncio.sleep(0)
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.calls[operation_of(request)] += 1

        async def forward() -> web.Response:
            return await self._forward(request, body)

        return await self.fault(request, forward)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        async with self._session.request(
            request.method,
            self._target + request.path_qs,
            data=body,
            headers=_end_to_end(request.headers),
        ) as answer:
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                headers=_end_to_end(answer.headers),
            )


def _end_to_end(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.title() not in _HOPS}


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    with start_blocking_portal("asyncio") as portal:
        proxy = Proxy(portal, target)
        proxy.listen()
        try:
            yield proxy
        finally:
            proxy.close()
