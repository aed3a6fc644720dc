"""Handlers' own messages, from a real worker through a server that answers as API Gateway does."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from integration.fast import FAST, ended
from integration.gateway import LONG_AGO, Server
from plugins import plugin
from processes import Process, page
from streamer_store import AsyncRequest, Stores
from support import connection

pytestmark = pytest.mark.anyio

_TALKERS = """
    from streamer_worker import handler

    def say(payload, ctx):
        for number in range(payload["messages"]):
            ctx.send({"own": number})
        ctx.broadcast("to the user", user=payload["user"])
        ctx.broadcast("to the tenant", tenant=payload["tenant"])
        return {"said": payload["messages"]}

    @handler("in_thread")
    def in_thread(payload, ctx):
        return say(payload, ctx)

    @handler("in_process", process=True)
    def in_process(payload, ctx):
        return say(payload, ctx)

    @handler("in_task")
    async def in_task(payload, ctx):
        for number in range(payload["messages"]):
            await ctx.send({"own": number})
        await ctx.broadcast("to the user", user=payload["user"])
        await ctx.broadcast("to the tenant", tenant=payload["tenant"])
        return {"said": payload["messages"]}
"""
_ACTIONS = ("in_thread", "in_process", "in_task")
Settled = tuple[Stores, dict[str, str]]


@pytest.fixture
def talkers(tmp_path: Path) -> str:
    entries = (f"{action} = talkers:{action}" for action in _ACTIONS)
    return str(plugin(tmp_path, "talkers", _TALKERS, *entries))


async def _connect(stores: Stores, server: Server, name: str, **fields: Any) -> None:
    await stores.connections.save(
        connection(name, endpoint=server.endpoint, connected_at=LONG_AGO, **fields)
    )


def _data(server: Server, name: str) -> list[Any]:
    """Return the messages of handlers, and the types of all others, in the order received."""
    bodies = [post["body"] for post in server.of(name) if post["status"] == 200]
    return [body["data"] if body["type"] == "message" else body["type"] for body in bodies]


@pytest.mark.parametrize("action", _ACTIONS)
async def test_messages_reach_whom_they_name(
    real: Settled, talkers: str, server: Server, action: str
) -> None:
    """The own connection gets them in their order, before the outcome, and those of a broadcast go
    to the connections of the user or the tenant.
    """
    stores, settings = real
    await _connect(stores, server, "ok-own", user_id="alice", tenant_id="t1")
    await _connect(stores, server, "ok-tab", user_id="alice", tenant_id="t2")
    await _connect(stores, server, "ok-bob", user_id="bob", tenant_id="t1")
    await _connect(stores, server, "ok-eve", user_id="eve", tenant_id="t2")
    settings |= {"STREAMER_NOTIFIER_HOSTS": server.host}
    with Process("run", PYTHONPATH=talkers, **(FAST | settings)) as worker:
        url = worker.event("worker_started")["metrics_url"]
        await stores.requests.enqueue(
            AsyncRequest(
                action=action,
                payload={"messages": 200, "user": "alice", "tenant": "t1"},
                request_id="r1",
                connection_id="ok-own",
            )
        )
        await server.until_all("ok-own", {"message": 202, "complete": 1})
        await server.until_all("ok-tab", {"message": 1})
        await server.until_all("ok-bob", {"message": 1})
        metrics = await anyio.to_thread.run_sync(page, url)
        assert 'streamer_worker_pushes_total{outcome="sent",type="message"} 204.0' in metrics
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    own = [{"own": number} for number in range(200)]
    assert _data(server, "ok-own") == [*own, "to the user", "to the tenant", "complete"]
    assert _data(server, "ok-tab") == ["to the user"]
    assert _data(server, "ok-bob") == ["to the tenant"]
    assert server.of("ok-eve") == []
    first = server.of("ok-own")[0]["body"]
    assert (first["request_id"], first["attempt"]) == ("r1", 1)


async def test_messages_without_push_or_connection_go_nowhere(real: Settled, talkers: str) -> None:
    """The handler does not notice, however many it sends."""
    stores, settings = real
    settings |= {"STREAMER_PUSH": "off"}
    payload = {"messages": 5000, "user": "nobody", "tenant": "none"}
    with Process("run", PYTHONPATH=talkers, **(FAST | settings)) as worker:
        worker.event("worker_started")
        requests = [
            AsyncRequest(action=action, payload=payload, request_id=action) for action in _ACTIONS
        ]
        await stores.requests.enqueue_many(requests)
        for request in await ended(stores, *(request.request_id for request in requests)):
            assert request.result == {"said": 5000}
