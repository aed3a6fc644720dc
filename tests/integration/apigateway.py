"""A server that answers as API Gateway's management API does, with TLS, as its own process.

    python apigateway.py CERTIFICATE LOG

prints its port. If CERTIFICATE is "-" it has no TLS. How it answers a connection is in the
connection's id, before the first "-":
`ok`, `gone`, `forbidden`, `throttled`, `error`, `slow`, `cut`, and what a proxy answers in place of
API Gateway (`_RUBBISH`); `flaky` fails once. Each post is a line of JSON in LOG.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

SLOW = 60.0
_PATH = re.compile(r"/(?P<stage>[^/]+)/@connections/(?P<id>[^/]+)")
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=\S+/\d{8}/(?P<region>[a-z0-9-]+)/execute-api/aws4_request, "
    r"SignedHeaders=(?P<headers>\S+), Signature=[0-9a-f]{64}"
)
# As the service words them; its error type is in a header.
_ERRORS = {
    "gone": (410, "GoneException"),
    "forbidden": (403, "ForbiddenException"),
    "throttled": (429, "LimitExceededException"),
    "error": (500, "InternalServerError"),
}
# What a proxy answers in its place: a status, a body.
_RUBBISH = {
    "portal": (200, "<html>please sign in</html>"),
    "json": (200, "{}"),
    "nothing": (204, None),
    "binary": (200, "\udcff"),
    "lost": (410, "<html>this page is gone</html>"),
    "list": (400, "[1]"),
    "null": (403, "null"),
}


class Gateway:
    def __init__(self, log: Path) -> None:
        self._log = log.open("a")
        self._met: set[str] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.fullmatch(request.rel_url.raw_path)
        signed = _SIGNED.fullmatch(request.headers.get("Authorization", ""))
        body = await request.read()
        if match is None or request.method != "POST":
            return self._noted("", 404, {"path": request.rel_url.raw_path})
        connection_id = unquote(match["id"])
        if signed is None or "x-amz-date" not in signed["headers"].split(";"):
            return self._noted(
                connection_id, 403, {"unsigned": request.headers.get("Authorization")}
            )
        post = {
            "stage": match["stage"],
            "region": signed["region"],
            "body": json.loads(body),
            "user_agent": request.headers.get("User-Agent"),
        }
        return await self._answer(request, connection_id, post)

    async def _answer(
        self, request: web.Request, connection_id: str, post: dict[str, Any]
    ) -> web.StreamResponse:
        kind = connection_id.partition("-")[0]
        if kind == "flaky":
            kind = "ok" if connection_id in self._met else "error"
            self._met.add(connection_id)
        if kind == "slow":
            self._note(connection_id, 0, post)
            await asyncio.sleep(SLOW)
        if kind == "cut":
            self._note(connection_id, 0, post)
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if kind in _RUBBISH:
            status, text = _RUBBISH[kind]
            self._note(connection_id, status, post)
            page = None if text is None else text.encode(errors="surrogateescape")
            return web.Response(status=status, body=page, content_type="text/html")
        status, error = _ERRORS.get(kind, (200, None))
        return self._noted(connection_id, status, post, error)

    def _noted(
        self, connection_id: str, status: int, post: dict[str, Any], error: str | None = None
    ) -> web.Response:
        self._note(connection_id, status, post)
        headers = {"x-amzn-RequestId": str(uuid.uuid4())}
        if error is not None:
            headers["x-amzn-ErrorType"] = error
        body = None if error is None else json.dumps({"message": error})
        return web.Response(status=status, text=body, headers=headers)

    def _note(self, connection_id: str, status: int, post: dict[str, Any]) -> None:
        line = {"connection_id": connection_id, "status": status, "at": time.time(), **post}
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()


async def serve(certificate: str, log: Path) -> None:
    context = None
    if certificate != "-":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    gateway = Gateway(log)
    runner = web.ServerRunner(web.Server(gateway.answer))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context, backlog=1000)
    await site.start()
    (address,) = runner.addresses
    sys.stdout.write(f"{address[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)  # until the parent process ends


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
