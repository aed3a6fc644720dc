"""Pushing through a real HTTPS server that answers as API Gateway does."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from aiobotocore.session import AioSession

from integration.fast import FAST, ended
from integration.gateway import LONG_AGO, Server, complete, connect, posting, subscribe
from processes import PATIENCE, Process, command, page
from streamer_store import (
    AsyncRequest,
    NotFound,
    Stores,
)
from streamer_worker.events import PushServiceFailed
from streamer_worker.push.errors import Gone, PushFailed
from streamer_worker.push.push_thread import push_on_thread
from streamer_worker.settings import NotifierSettings
from support import connection, make_runtime
from unit.worker.harness import Recorder

pytestmark = pytest.mark.anyio


async def test_a_post_is_signed_and_has_its_path(server: Server) -> None:
    """The stage comes before `@connections`, the id is escaped, and the region is the client's."""
    async with posting() as post:
        for connection_id in ("ok-Zk1=", "ok-a/b c#d?e", "ok-ü"):
            await post(f"https://{server.host}/prod", connection_id, b'{"type":"complete"}')
            (sent,) = server.of(connection_id)
            assert (sent["status"], sent["stage"], sent["region"]) == (200, "prod", "eu-central-1")
            assert sent["user_agent"].startswith("streamer-worker/")


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
    """A post is tried once. The notifier repeats it."""
    async with posting(seconds=1) as post:
        with pytest.raises(PushFailed) as caught:
            await post(f"https://{server.host}/prod", connection_id, b"{}")
    assert code is None or caught.value.code == code
    assert len(server.of(connection_id)) == 1


@pytest.mark.parametrize("kind", ["portal", "json", "nothing", "binary", "lost", "list", "null"])
async def test_an_answer_that_is_not_api_gateways_is_a_failure(server: Server, kind: str) -> None:
    """A page of a proxy neither counts as delivered nor removes a connection."""
    async with posting() as post:
        with pytest.raises(PushFailed):
            await post(f"https://{server.host}/prod", f"{kind}-1", b"{}")
    assert len(server.of(f"{kind}-1")) == 1


async def test_gone_is_its_own_error(server: Server) -> None:
    """It raises an error of its own type."""
    async with posting() as post:
        with pytest.raises(Gone):
            await post(f"https://{server.host}/prod", "gone-1", b"{}")


async def test_an_unreachable_host_is_a_failure(server: Server) -> None:
    """So is a certificate that is not trusted, and a call without credentials."""
    del server
    async with posting(seconds=1) as post:
        with pytest.raises(PushFailed):
            await post("https://localhost:1/prod", "ok-1", b"{}")


async def test_clients_of_unused_endpoints_are_closed(server: Server) -> None:
    """Only clients of recently used stages are open."""
    async with posting() as post:
        for number in range(40):
            await post(f"https://{server.host}/stage{number}", "ok-1", b"{}")
        assert len(post._clients) == 32
    assert len(server.of("ok-1")) == 40


async def test_concurrent_posts_to_a_new_endpoint_share_a_client(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise many clients would never be closed."""
    created = []
    create = AioSession.create_client

    def counted(self: AioSession, *arguments: Any, **options: Any) -> Any:
        created.append(options["endpoint_url"])
        return opened(create(self, *arguments, **options))

    @asynccontextmanager
    async def opened(context: Any) -> AsyncIterator[Any]:
        await anyio.sleep(0.05)  # as long as a role's credentials take, at the least
        async with context as client:
            yield client

    monkeypatch.setattr(AioSession, "create_client", counted)
    async with posting(max_concurrent_posts=50) as post:
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                for stage in ("one", "two"):
                    url = f"https://{server.host}/{stage}"
                    tasks.start_soon(post, url, f"ok-{number}", b"{}")
        assert len(created) == 2
        assert len(post._clients) == 2
    assert len(server.of("ok-49")) == 2


async def test_a_worker_notifies_connections(
    real: tuple[Stores, dict[str, str]], plugins: str, server: Server
) -> None:
    """It pushes progress and the end, removes gone connections, and repeats failed posts."""
    stores, settings = real
    await connect(stores, server, "ok-own", "ok-other", "gone-1", "flaky-1", "error-1")
    await subscribe(stores, "r1", "ok-other", "gone-1", "flaky-1", "error-1")
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
    (complete,) = [post for post in server.of("ok-own") if post["body"]["type"] == "complete"]
    assert complete["body"]["result"] == {"waited": 0.5}
    assert complete["region"] == "us-east-1"


async def test_an_end_right_before_the_stop_is_pushed(
    real: tuple[Stores, dict[str, str]], plugins: str, server: Server
) -> None:
    """The last messages are flushed when the worker stops."""
    stores, settings = real
    await connect(stores, server, "ok-own")
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
    """By default only API Gateway's own domains may be called."""
    stores, settings = real
    await connect(stores, server, "ok-own")
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        worker.event("worker_started")
        request = await stores.requests.enqueue(
            AsyncRequest(action="wait", payload={"seconds": 0}, connection_id="ok-own")
        )
        worker.event("endpoint_refused", connection_id="ok-own")
        await ended(stores, request.request_id)
    assert server.received() == []


async def test_a_gateway_without_tls_is_called_if_its_scheme_is_listed(
    real: tuple[Stores, dict[str, str]], plugins: str, plain_server: Server
) -> None:
    """On a developer's machine. The default hosts stay allowed."""
    stores, settings = real
    await connect(stores, plain_server, "ok-own")
    settings |= {"STREAMER_NOTIFIER_MORE_HOSTS": f"http://{plain_server.host}"}
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        worker.event("worker_started")
        await stores.requests.enqueue(
            AsyncRequest(action="wait", payload={"seconds": 0}, connection_id="ok-own")
        )
        await plain_server.until("ok-own", "complete")


async def test_everything_is_posted_to_one_endpoint(
    real: tuple[Stores, dict[str, str]], plugins: str, plain_server: Server
) -> None:
    """A custom domain in the row is not called. `cancel` posts there, too."""
    stores, settings = real
    await stores.connections.save(
        connection("ok-own", endpoint="wss://example.com/ws", connected_at=LONG_AGO)
    )
    settings |= {"STREAMER_PUSH_ENDPOINT": plain_server.endpoint}
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        worker.event("worker_started")
        await stores.requests.enqueue(
            AsyncRequest(action="wait", payload={"seconds": 0}, connection_id="ok-own")
        )
        await plain_server.until("ok-own", "complete")
    request = await stores.requests.enqueue(AsyncRequest(action="any", connection_id="ok-own"))
    await anyio.to_thread.run_sync(partial(command, "cancel", request.request_id, **settings))
    await plain_server.until("ok-own", "complete", "error")


async def test_messages_are_logged_instead(
    real: tuple[Stores, dict[str, str]], plugins: str, server: Server
) -> None:
    """With push = log. Nothing is posted, by `cancel` neither."""
    stores, settings = real
    await connect(stores, server, "ok-own")
    settings |= {"STREAMER_NOTIFIER_MORE_HOSTS": server.host, "STREAMER_PUSH": "log"}
    with Process("run", PYTHONPATH=plugins, **(FAST | settings)) as worker:
        worker.event("worker_started")
        await stores.requests.enqueue(
            AsyncRequest(
                action="wait", payload={"seconds": 0}, connection_id="ok-own", request_id="r1"
            )
        )
        logged = worker.event("push_logged", connection_id="ok-own")
    assert logged["url"] == server.endpoint.replace("wss", "https")
    assert json.loads(logged["data"])["request_id"] == "r1"
    request = await stores.requests.enqueue(AsyncRequest(action="any", connection_id="ok-own"))
    await anyio.to_thread.run_sync(partial(command, "cancel", request.request_id, **settings))
    assert server.received() == []


async def test_cancelling_a_waiting_request_notifies_its_connection(
    real: tuple[Stores, dict[str, str]], server: Server
) -> None:
    """`cancel` notifies it. A worker notifies the connections of a running request."""
    stores, settings = real
    await connect(stores, server, "ok-own")
    request = await stores.requests.enqueue(AsyncRequest(action="any", connection_id="ok-own"))
    settings |= {"STREAMER_NOTIFIER_HOSTS": server.host}
    done = await anyio.to_thread.run_sync(
        partial(command, "cancel", request.request_id, **settings)
    )
    assert (done.returncode, done.stderr) == (0, "")
    (post,) = server.of("ok-own")
    assert post["body"]["error"]["code"] == "CANCELLED"
    assert post["body"]["request_id"] == request.request_id


async def test_pushing_that_cannot_start_does_not_stop_anything(server: Server) -> None:
    """An event reports it, it is tried again, and the end does not wait for it."""
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
        runtime=make_runtime(recorder.events.append),
    )
    began = time.monotonic()
    async with opener() as push:
        push(complete("r1", None))
        with anyio.fail_after(PATIENCE):
            while not recorder.of(PushServiceFailed):  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert time.monotonic() - began < 4
