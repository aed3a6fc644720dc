"""Telling connections, through a real HTTPS server that answers as API Gateway does."""

from __future__ import annotations

import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from integration import apigateway
from integration.fast import FAST, ended
from processes import PATIENCE, Process, command, page
from streamer_store import (
    AsyncRequest,
    Connection,
    NotFound,
    Stores,
    SystemClock,
    open_stores,
)
from streamer_worker.events import Events, PushBroken
from streamer_worker.push.apigateway import open_poster
from streamer_worker.push.errors import Gone, PushFailed
from streamer_worker.push.messages import CompleteMessage, ProgressMessage
from streamer_worker.push.opening import Push, push_on_thread
from streamer_worker.settings import NotifierSettings
from unit.worker.harness import Recorder

pytestmark = pytest.mark.anyio

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


class Server:
    """The server, and what it has received."""

    def __init__(self, port: int, log: Path, authority: str) -> None:
        self.host = f"localhost:{port}"
        self.endpoint = f"wss://{self.host}/prod"
        self.authority = authority
        self._log = log

    def received(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def of(self, connection_id: str) -> list[dict[str, Any]]:
        return [each for each in self.received() if each["connection_id"] == connection_id]

    def types(self, connection_id: str) -> list[str]:
        return [each["body"]["type"] for each in self.of(connection_id) if each["status"] == 200]

    async def until(self, connection_id: str, *types: str) -> None:
        """Wait until these messages have been taken."""
        with anyio.fail_after(PATIENCE):
            while self.types(connection_id)[-len(types) :] != list(types):  # noqa: ASYNC110
                await anyio.sleep(0.05)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start one whose certificate AWS's client is told to trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    log = tmp_path / "log"
    log.touch()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, apigateway.__file__, str(tmp_path / "server.pem"), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Server(port, log, str(tmp_path / "authority.pem"))
        process.kill()


async def _connect(
    stores: Stores, server: Server, *ids: str, connected_at: datetime = LONG_AGO
) -> None:
    limiter = anyio.CapacityLimiter(20)

    async def save(connection_id: str) -> None:
        async with limiter:
            await stores.connections.save(
                Connection(
                    connection_id=connection_id,
                    user_id="u",
                    tenant_id="t",
                    endpoint=server.endpoint,
                    connected_at=connected_at,
                )
            )

    async with anyio.create_task_group() as tasks:
        for each in ids:
            tasks.start_soon(save, each)


async def _subscribe(stores: Stores, request_id: str, *ids: str) -> None:
    limiter = anyio.CapacityLimiter(20)

    async def subscribe(connection_id: str) -> None:
        async with limiter:
            await stores.subscriptions.subscribe(connection_id, request_id)

    async with anyio.create_task_group() as tasks:
        for each in ids:
            tasks.start_soon(subscribe, each)


async def test_a_post_is_signed_and_goes_to_its_path(server: Server) -> None:
    """The stage before `@connections`, the id escaped, the region the client's own."""
    async with open_poster(region=None, seconds=5, at_once=5) as post:
        for connection_id in ("ok-Zk1=", "ok-a/b c#d?e", "ok-ü"):
            await post(f"https://{server.host}/prod", connection_id, b'{"type":"complete"}')
            (told,) = server.of(connection_id)
            assert (told["status"], told["stage"], told["region"]) == (200, "prod", "eu-central-1")
            assert told["user_agent"].startswith("streamer-worker/")


@pytest.mark.parametrize(
    ("connection_id", "code"),
    [
        ("forbidden-1", "403"),
        ("throttled-1", "429"),
        ("error-1", "500"),
        ("slow-1", None),
        ("cut-1", None),
    ],
)
async def test_each_failure_has_a_code(
    server: Server, connection_id: str, code: str | None
) -> None:
    """It is tried once: who tries again is the notifier."""
    async with open_poster(region=None, seconds=1, at_once=5) as post:
        with pytest.raises(PushFailed) as caught:
            await post(f"https://{server.host}/prod", connection_id, b"{}")
    assert code is None or caught.value.code == code
    assert len(server.of(connection_id)) == 1


async def test_what_is_gone_is_gone(server: Server) -> None:
    """That is another error."""
    async with open_poster(region=None, seconds=5, at_once=5) as post:
        with pytest.raises(Gone):
            await post(f"https://{server.host}/prod", "gone-1", b"{}")


async def test_a_host_that_is_not_there_is_a_failure(server: Server) -> None:
    """Or one whose certificate is not trusted, or without credentials."""
    del server
    async with open_poster(region=None, seconds=1, at_once=5) as post:
        with pytest.raises(PushFailed):
            await post("https://localhost:1/prod", "ok-1", b"{}")


async def test_many_endpoints_are_not_kept_for_ever(server: Server) -> None:
    """A client for each stage that was used lately."""
    async with open_poster(region=None, seconds=5, at_once=5) as post:
        for number in range(40):
            await post(f"https://{server.host}/stage{number}", "ok-1", b"{}")
        assert len(post._clients) == 32
    assert len(server.of("ok-1")) == 40


async def test_a_worker_tells_those_who_wait(
    real: tuple[Stores, dict[str, str]], plugins: str, server: Server
) -> None:
    """Progress, then the end; what is gone goes; a failure is tried again; metrics count."""
    stores, settings = real
    await _connect(stores, server, "ok-own", "ok-other", "gone-1", "flaky-1", "error-1")
    await _subscribe(stores, "r1", "ok-other", "gone-1", "flaky-1", "error-1")
    settings |= {"STREAMER_NOTIFIER_HOSTS": server.host, "STREAMER_REGION": "us-east-1"}
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        url = worker.event("worker_started")["metrics_url"]
        await stores.requests.enqueue(
            AsyncRequest(
                action="wait", payload={"seconds": 0.5}, request_id="r1", connection_id="ok-own"
            )
        )
        await server.until("ok-own", "progress", "complete")
        await server.until("ok-other", "progress", "complete")
        await server.until("flaky-1", "complete")
        worker.event("connection_gone", connection_id="gone-1", subscriptions=1)
        metrics = await anyio.to_thread.run_sync(page, url)
        assert 'streamer_worker_pushes_total{outcome="gone",type="progress"} 1.0' in metrics
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    with pytest.raises(NotFound):
        await stores.connections.get("gone-1")
    (complete,) = [each for each in server.of("ok-own") if each["body"]["type"] == "complete"]
    assert complete["body"]["result"] == {"waited": 0.5}
    assert complete["region"] == "us-east-1"


async def test_an_end_right_before_the_stop_is_still_told(
    real: tuple[Stores, dict[str, str]], plugins: str, server: Server
) -> None:
    """The last messages have their time, though the worker has been told to go."""
    stores, settings = real
    await _connect(stores, server, "ok-own")
    settings |= {"STREAMER_NOTIFIER_HOSTS": server.host}
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        worker.event("worker_started")
        await stores.requests.enqueue(
            AsyncRequest(action="wait", payload={"seconds": 1}, connection_id="ok-own")
        )
        await server.until("ok-own", "progress")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert server.types("ok-own") == ["progress", "complete"]


async def test_a_host_off_the_list_is_never_called(
    real: tuple[Stores, dict[str, str]], plugins: str, server: Server
) -> None:
    """By default there is API Gateway's own domain alone."""
    stores, settings = real
    await _connect(stores, server, "ok-own")
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        worker.event("worker_started")
        request = await stores.requests.enqueue(
            AsyncRequest(action="wait", payload={"seconds": 0}, connection_id="ok-own")
        )
        worker.event("endpoint_refused", connection_id="ok-own")
        await ended(stores, request.request_id)
    assert server.received() == []


async def test_cancelling_a_waiting_request_tells_its_connection(
    real: tuple[Stores, dict[str, str]], server: Server
) -> None:
    """By the command that cancels it; one that runs is told by its worker."""
    stores, settings = real
    await _connect(stores, server, "ok-own")
    request = await stores.requests.enqueue(AsyncRequest(action="any", connection_id="ok-own"))
    settings |= {"STREAMER_NOTIFIER_HOSTS": server.host}
    done = await anyio.to_thread.run_sync(
        partial(command, "cancel", request.request_id, **settings)
    )
    assert (done.returncode, done.stderr) == (0, "")
    (told,) = server.of("ok-own")
    assert told["body"]["error"]["code"] == "CANCELLED"
    assert told["body"]["request_id"] == request.request_id


@asynccontextmanager
async def pushing(url: str, prefix: str, server: Server, recorder: Recorder) -> AsyncIterator[Push]:
    """Open pushing as the worker does, on its thread."""
    settings = NotifierSettings(hosts=(server.host,))
    opener = push_on_thread(
        open_stores=partial(open_stores, endpoint_url=url, prefix=prefix, max_connections=10),
        open_post=partial(
            open_poster, region=None, seconds=settings.timeout, at_once=settings.at_once
        ),
        settings=settings,
        events=Events(recorder),
        clock=SystemClock(),
        rng=random.Random(7),
    )
    async with opener() as push:
        yield push


async def test_pushing_that_cannot_start_does_not_stop_anything(server: Server) -> None:
    """It is told, and tried again; leaving does not wait for it."""
    del server
    recorder = Recorder()

    @asynccontextmanager
    async def broken() -> AsyncIterator[Any]:
        raise OSError("no client")
        yield

    opener = push_on_thread(
        open_stores=broken,
        open_post=broken,
        settings=NotifierSettings(),
        events=Events(recorder.events.append),
        clock=SystemClock(),
        rng=random.Random(7),
    )
    began = time.monotonic()
    async with opener() as push:
        push(_complete("r1", None))
        with anyio.fail_after(PATIENCE):
            while not recorder.of(PushBroken):  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert time.monotonic() - began < 4


def _complete(request_id: str, connection_id: str | None) -> CompleteMessage:
    return CompleteMessage(
        request_id=request_id, connection_id=connection_id, at=LONG_AGO, result={"n": 1}
    )


def _progress(request_id: str, number: int) -> ProgressMessage:
    return ProgressMessage(
        request_id=request_id,
        connection_id=None,
        at=LONG_AGO,
        fraction=number / 1000,
        message=f"step {number}",
        details=None,
    )


async def _handler(push: Push, request_id: str) -> float:
    """Stand in for a handler of a hundred steps that tells of each; return its seconds."""
    began = time.monotonic()
    for number in range(100):
        push(_progress(request_id, number))
        await anyio.sleep(0.03)
    return time.monotonic() - began


@pytest.mark.local
async def test_a_thousand_who_wait_slow_nobody(
    real: tuple[Stores, dict[str, str]], local_url: str, server: Server
) -> None:
    """100 are gone, 50 slow: the others have the end within 5 s, and the handler's own steps
    take at most 5 % longer than when nobody waits.
    """
    stores, settings = real
    kinds = ["gone"] * 100 + ["slow"] * 50 + ["ok"] * 850
    ids = [f"{kind}-{number}" for number, kind in enumerate(kinds)]
    random.Random(7).shuffle(ids)
    await _connect(stores, server, *ids)
    await _subscribe(stores, "r1", *ids)
    recorder = Recorder()
    alone, watched = [], []
    async with pushing(local_url, settings["STREAMER_TABLE_PREFIX"], server, recorder) as push:
        for _ in range(3):
            alone.append(await _handler(push, "nobody"))
            watched.append(await _handler(push, "r1"))
        push(_complete("r1", None))
        offered = time.time()
        expected = {each for each in ids if each.startswith("ok-")}
        with anyio.fail_after(PATIENCE):
            while True:
                told = {
                    each["connection_id"]: each["at"]
                    for each in server.received()
                    if each["status"] == 200 and each["body"]["type"] == "complete"
                }
                if set(told) >= expected:
                    break
                await anyio.sleep(0.2)
    took = max(told[each] for each in expected) - offered
    ratio = statistics.median(watched) / statistics.median(alone)
    print(  # noqa: T201
        f"850 of 1,000 were told within {took:.2f} s;"
        f" the handler took {ratio:.3f} of its time ({alone} alone, {watched} watched)"
    )
    assert took < 5
    assert ratio < 1.05
