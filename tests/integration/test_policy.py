"""The shipped IAM policy against the calls of real workers, recorded by a proxy."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from integration.fast import FAST, ended
from integration.gateway import Server, connect, subscribe
from integration.policy_fault import PolicyFault
from integration.proxy import Proxy
from policy import allowed
from processes import PATIENCE, Process
from streamer_store import AsyncRequest, RequestStatus, Stores, SystemClock
from streamer_store.engine import Put
from streamer_store.schema import REQUESTS, SUBSCRIPTIONS
from support import connection

pytestmark = [pytest.mark.anyio, pytest.mark.local]
Settled = tuple[Stores, dict[str, str]]


@pytest.fixture
def checked_stores(real: Settled, proxy: Proxy) -> PolicyFault:
    """Run two workers through the proxy; the test itself has direct stores."""
    _, settings = real
    judge = PolicyFault(settings["STREAMER_TABLE_PREFIX"])
    proxy.fault = judge
    settings["STREAMER_ENDPOINT_URL"] = proxy.url
    return judge


@pytest.fixture
def workers(
    real: Settled, checked_stores: PolicyFault, plugins: str, server: Server
) -> Iterator[tuple[Process, Process]]:
    """Start two workers that push. The first one leads."""
    del checked_stores
    _, settings = real
    more = settings | {
        "PYTHONPATH": plugins,
        "STREAMER_NOTIFIER_HOSTS": server.host,
        "STREAMER_POLL_UNKNOWN_ACTION_TIMEOUT": "1s",
        "STREAMER_DEPTH_INTERVAL": "1s",
        "STREAMER_REAPER_INTERVAL": "1s",
        "STREAMER_DRAIN_TIMEOUT": "500ms",
        "STREAMER_SCHEDULES": '{"wait": {"cron": "* * * * * *", "payload": {"seconds": 0}}}',
    }
    with ExitStack() as stack:
        first = stack.enter_context(Process("run", **(FAST | more)))
        first.event("worker_started")
        second = stack.enter_context(Process("run", **(FAST | more)))
        second.event("worker_started")
        yield first, second


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(PATIENCE):
        while not await holds():  # noqa: ASYNC110  the table has no notifications
            await anyio.sleep(0.05)


async def _until_gone(stores: Stores, request_id: str) -> None:
    """Wait until the request has no subscriptions."""

    async def holds() -> bool:
        return not await stores.subscriptions.get_by_request(request_id)

    await _until(holds)


async def _until_count(stores: Stores, status: RequestStatus, count: int) -> None:
    async def holds() -> bool:
        return (await stores.requests.depth(status, limit=100)).count == count

    await _until(holds)


async def _orphan(stores: Stores, request_id: str) -> None:
    """Write a subscription whose connection has no row."""
    item: dict[str, Any] = {
        "SubscriptionID": {"S": f"nobody#{request_id}"},
        "ConnectionID": {"S": "nobody"},
        "RequestID": {"S": request_id},
        "EventTypes": {"SS": ["progress", "complete", "error"]},
        "CreatedAt": {"S": "2026-01-01T00:00:00.000000Z"},
    }
    await stores.engine.put(Put(table=SUBSCRIPTIONS, item=item))


async def _stale(stores: Stores, server: Server) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=1)
    await stores.connections.save(
        connection("stale", endpoint=server.endpoint, connected_at=long_ago, last_ping=long_ago)
    )
    await stores.subscriptions.subscribe("stale", "of-the-stale")


async def _undecodable(stores: Stores) -> None:
    """Write a PENDING request whose payload is not a map."""
    now = SystemClock().now().isoformat()
    item: dict[str, Any] = {
        "RequestID": {"S": "odd"},
        "Status": {"S": "PENDING"},
        "CreatedAt": {"S": now.replace("+00:00", "Z")},
        "Action": {"S": "wait"},
        "Payload": {"S": "no map"},
    }
    await stores.engine.put(Put(table=REQUESTS, item=item))


async def test_workers_make_exactly_the_allowed_calls(
    real: Settled, checked_stores: PolicyFault, workers: tuple[Process, Process], server: Server
) -> None:
    """They run requests, push, rescue and reap, and remove dead connections and subscriptions."""
    stores, _ = real
    first, second = workers
    await connect(stores, server, "ok-own", "gone-1", "gone-2")
    # Two that no other message has read, so that they are read together.
    await subscribe(stores, "told", "gone-1", "gone-2")
    await _orphan(stores, "told")
    await _stale(stores, server)
    payload = {"seconds": 0.5}
    await stores.requests.enqueue(
        AsyncRequest(action="wait", payload=payload, request_id="told", connection_id="ok-own")
    )
    await _until_gone(stores, "told")
    await stores.requests.enqueue_many(
        [
            AsyncRequest(action="nobody_has_this", request_id="unknown"),
            AsyncRequest(action="hold_action", request_id="held"),
            AsyncRequest(
                action="talk",
                payload={"messages": 1, "user": "u", "tenant": "t"},
                request_id="talk",
                connection_id="ok-own",
            ),
        ]
    )
    await _undecodable(stores)
    await ended(stores, "talk", "unknown", "told", "held")
    await _until_count(stores, RequestStatus.FAILED, 2)
    await server.until_all("ok-own", {"progress": 1, "complete": 2, "message": 3})
    await _until_gone(stores, "of-the-stale")

    await stores.requests.enqueue_many(
        AsyncRequest(action="first_hangs", request_id=f"hangs-{number}") for number in range(8)
    )
    await _until_count(stores, RequestStatus.PROCESSING, 8)
    first.signal(signal.SIGKILL)
    second.event("dead_worker_removed")
    await stores.requests.cancel("hangs-0")
    second.signal(signal.SIGTERM)
    assert second.ended() == 0

    posted = {action for action in allowed() if action[0] == "execute-api:ManageConnections"}
    assert len(posted) == 1
    assert server.received()
    assert checked_stores.seen - allowed() == set()
    assert allowed() - posted - checked_stores.seen == set()
