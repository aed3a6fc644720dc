"""A server that plays API Gateway, and connections to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from integration import apigateway
from processes import PATIENCE
from streamer_store import Cache, CallEnded, Stores, TryFailed, open_stores
from streamer_worker.push.apigateway import Poster, open_poster
from streamer_worker.push.messages import CompleteMessage
from streamer_worker.push.push_thread import Push, push_on_thread
from streamer_worker.settings import NotifierSettings
from support import connection, make_runtime, open_sockets, until_open_sockets
from unit.worker.harness import Recorder

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


class Server:
    """The server, and the posts that it has received."""

    def __init__(self, port: int, log: Path, *, scheme: str = "wss", authority: str = "") -> None:
        self.host = f"localhost:{port}"
        self.endpoint = f"{scheme}://{self.host}/prod"
        self.authority = authority
        self._log = log

    def received(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def of(self, connection_id: str) -> list[dict[str, Any]]:
        return [post for post in self.received() if post["connection_id"] == connection_id]

    def types(self, connection_id: str) -> list[str]:
        return [post["body"]["type"] for post in self.of(connection_id) if post["status"] == 200]

    async def until(self, connection_id: str, *types: str) -> None:
        """Wait until these messages have been received."""
        with anyio.fail_after(PATIENCE):
            while self.types(connection_id)[-len(types) :] != list(types):  # noqa: ASYNC110
                await anyio.sleep(0.05)

    async def until_all(self, connection_id: str, counts: Mapping[str, int]) -> None:
        """Wait until as many messages of these types have been received, in any order."""
        with anyio.fail_after(PATIENCE):
            while Counter(self.types(connection_id)) != counts:  # noqa: ASYNC110
                await anyio.sleep(0.05)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a server whose certificate is trusted by the AWS client."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    log = tmp_path / "log"
    with _running(tmp_path / "server.pem", log) as port:
        yield Server(port, log, authority=str(tmp_path / "authority.pem"))


@pytest.fixture
def plain_server(tmp_path: Path) -> Iterator[Server]:
    """Start a server without TLS, as on a developer's machine."""
    log = tmp_path / "plain-log"
    with _running("-", log) as port:
        yield Server(port, log, scheme="ws")


@contextmanager
def _running(certificate: Path | str, log: Path) -> Iterator[int]:
    log.touch()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, apigateway.__file__, str(certificate), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


async def connect(
    stores: Stores, server: Server, *ids: str, connected_at: datetime = LONG_AGO
) -> None:
    limiter = anyio.CapacityLimiter(20)

    async def save(connection_id: str) -> None:
        async with limiter:
            await stores.connections.save(
                connection(connection_id, endpoint=server.endpoint, connected_at=connected_at)
            )

    async with anyio.create_task_group() as tasks:
        for connection_id in ids:
            tasks.start_soon(save, connection_id)


async def subscribe(stores: Stores, request_id: str, *ids: str) -> None:
    limiter = anyio.CapacityLimiter(20)

    async def subscribe(connection_id: str) -> None:
        async with limiter:
            await stores.subscriptions.subscribe(connection_id, request_id)

    async with anyio.create_task_group() as tasks:
        for connection_id in ids:
            tasks.start_soon(subscribe, connection_id)


@asynccontextmanager
async def posting(*, seconds: float = 5, max_concurrent_posts: int = 5) -> AsyncIterator[Poster]:
    """Yield a poster, and wait at the end until its connections are closed."""
    before = open_sockets()
    async with open_poster(
        region=None, seconds=seconds, max_concurrent_posts=max_concurrent_posts
    ) as poster:
        yield poster
    await until_open_sockets(before)


@asynccontextmanager
async def pushing(
    url: str,
    prefix: str,
    server: Server,
    recorder: Recorder,
    observe: Callable[[CallEnded | TryFailed], None] | None = None,
) -> AsyncIterator[Push]:
    """Open the push service on a thread, as the worker does. `observe`: see `open_stores`."""
    settings = NotifierSettings(hosts=(server.host,))
    opener = push_on_thread(
        open_stores=partial(
            open_stores,
            endpoint_url=url,
            prefix=prefix,
            max_connections=10,
            cache=Cache(max_age=10, absent=False, subscriptions=False),
            observe=observe,
        ),
        open_post=partial(
            open_poster,
            region=None,
            seconds=settings.timeout,
            max_concurrent_posts=settings.max_concurrent_posts,
        ),
        settings=settings,
        runtime=make_runtime(recorder),
    )
    async with opener() as push:
        yield push


def complete(request_id: str, connection_id: str | None) -> CompleteMessage:
    return CompleteMessage(
        request_id=request_id, connection_id=connection_id, at=LONG_AGO, result={"n": 1}
    )
