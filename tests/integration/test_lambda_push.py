"""A client of examples/lambda and a real worker: from a message to the push of its result."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from examples.lambda_function import imported
from integration.fast import FAST
from integration.gateway import Server
from processes import Process
from streamer_store import open_stores_sync
from support import unique_prefix

pytestmark = pytest.mark.local


def test_the_worker_pushes_to_the_connections_that_the_function_stored(
    local_url: str, plugins: str, plain_server: Server
) -> None:
    """To the sender, and to another connection of the user, which subscribed. Then both read it."""
    prefix = unique_prefix()
    settings = FAST | {
        "STREAMER_ENDPOINT_URL": local_url,
        "STREAMER_TABLE_PREFIX": prefix,
        "STREAMER_HTTP_HOST": "127.0.0.1",
        "STREAMER_HTTP_PORT": "0",
        "STREAMER_NOTIFIER_MORE_HOSTS": f"http://{plain_server.host}",
        "PYTHONPATH": plugins,
    }
    with open_stores_sync(endpoint_url=local_url, prefix=prefix) as stores:
        stores.create_tables()
    with imported(local_url, prefix, MANAGEMENT_ENDPOINT=plain_server.endpoint) as function:
        sender, other = function.client("ada"), function.client("ada")
        sender.connection_id, other.connection_id = "ok-L0SM9cOFvHcCIhw=", "ok-other="
        assert (sender.connect(), other.connect()) == (200, 200)
        message = {"action": "wait", "payload": {"seconds": 0}, "request_id": "r1"}
        assert sender.send(**message)[0] == 200
        assert other.send(type="subscribe", request_id="r1")[0] == 200
        with Process("run", **settings) as worker:
            worker.event("worker_started")
            for client in (sender, other):
                anyio.run(partial(plain_server.until, client.connection_id, "complete"))
        (post,) = plain_server.of(sender.connection_id)
        state = other.send(type="read", request_id="r1")[1]
    assert post["body"]["request_id"] == "r1"
    assert (state["status"], state["result"]) == ("COMPLETED", post["body"]["result"])
