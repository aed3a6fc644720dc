"""Clients of Go producers: a worker on their rows posts to the example of a gateway."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from go_rows import connection_row, request_row, subscription_row
from integration.gateway_clients import (
    Client,
    Clients,
    Real,
    connections,
    working_gateway_of,
)
from streamer_store import Stores
from streamer_store.engine import Put
from streamer_store.schema import CONNECTIONS, REQUESTS, SUBSCRIPTIONS

pytestmark = [pytest.mark.anyio, pytest.mark.local]
REQUEST_ID = "8c1f6c1e-95c5-4d3c-9a50-0a5f0a6a2b11"


@pytest.mark.parametrize(
    ("names_gateway", "endpoint"),
    [
        ("STREAMER_PUSH_ENDPOINT", "wss://example.com/ws"),
        ("STREAMER_NOTIFIER_MORE_HOSTS", "ws://{host}"),
    ],
)
async def test_rows_by_go_get_progress_and_the_result(
    real: Real, names_gateway: str, endpoint: str
) -> None:
    """The client that made the request gets them, and one that is subscribed to it."""
    stores, _ = real
    async with working_gateway_of(real, names_gateway=names_gateway) as clients:
        endpoint = endpoint.format(host=clients.gateway.url.removeprefix("http://"))
        ada, own = await _connect(stores, clients, "ada", endpoint)
        grace, other = await _connect(stores, clients, "grace", endpoint)
        now = datetime.now(UTC)
        subscription = subscription_row(other, REQUEST_ID, ["complete", "error", "progress"], now)
        await stores.engine.put(Put(table=SUBSCRIPTIONS, item=subscription))
        request = request_row(REQUEST_ID, own, "generate_report", {"pages": {"N": "5"}}, now)
        await stores.engine.put(Put(table=REQUESTS, item=request))
        for client in (ada, grace):
            await client.until("progress", request_id=REQUEST_ID)
            end = await client.until("complete", request_id=REQUEST_ID)
            assert end["result"] == {"pages": 5}


async def test_go_messages_begin_with_0_and_end_with_100_percent(real: Real) -> None:
    """Also for a handler that reports nothing and ends at once. `success` is inside the result.

    The table has the handler's result. The message of a failure is as without the setting.
    """
    stores, _ = real
    on = {"STREAMER_NOTIFIER_GO_MESSAGES": "true"}
    async with working_gateway_of(real, **on) as clients:
        ada = await clients.connect("ada")
        for action, payload in (("echo", {"number": 1}), ("generate_report", {"pages": 3})):
            ada.received.clear()
            request_id = await ada.request(action, **payload)
            end = await ada.until("complete", request_id=request_id)
            moved = [each for each in ada.received if each["type"] == "progress"]
            first, last = moved[0], moved[-1]
            assert (first["percentage"], first["message"]) == (0, "Processing started")
            assert (last["percentage"], last["message"]) == (100, "Processing complete")
            assert ada.received[-2:] == [last, end]
            percentages = [each["percentage"] for each in moved]
            assert percentages == sorted(percentages)
            stored = await stores.requests.get(request_id)
            assert (end["success"], end["result"]) == (True, {"success": True, **payload})
            assert stored.result == payload
            assert stored.progress_message != "Processing complete"
        ada.received.clear()
        declined = await ada.request("charge_card", card="1")
        end = await ada.until("error", request_id=declined)
        assert end["error"]["code"] == "CARD_DECLINED"
        assert "Processing complete" not in [each.get("message") for each in ada.received]


async def test_quick_requests_at_once_lose_no_message(real: Real) -> None:
    """Each has its start, its 100 % and its end, in this order."""
    on = {"STREAMER_NOTIFIER_GO_MESSAGES": "true"}
    async with working_gateway_of(real, **on) as clients:
        ada = await clients.connect("ada")
        ids = [f"r{number}" for number in range(30)]
        for request_id in ids:
            await ada.send("request", action="echo", payload={}, request_id=request_id)
        while sum(each["type"] == "complete" for each in ada.received) < len(ids):
            await ada.until("complete")
        for request_id in ids:
            kinds = [
                each.get("percentage", each["type"])
                for each in ada.received
                if each["request_id"] == request_id and each["type"] != "accepted"
            ]
            assert kinds == [0, 100, "complete"]


async def _connect(
    stores: Stores, clients: Clients, user: str, endpoint: str
) -> tuple[Client, str]:
    """Return a client and the id of its connection, whose row Go's $connect has written."""
    known = {row.connection_id for row in await connections(stores)}
    client = await clients.connect(user)
    (connection_id,) = {row.connection_id for row in await connections(stores)} - known
    row = connection_row(connection_id, endpoint, datetime.now(UTC))
    await stores.engine.put(Put(table=CONNECTIONS, item=row))
    return client, connection_id
