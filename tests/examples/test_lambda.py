"""examples/lambda: what clients of the WebSocket API can do, on moto and on DynamoDB Local."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from contract.request_steps import reclaimed
from examples.lambda_function import Function, imported
from streamer_store import NotFound, RequestStatus, open_stores, open_stores_sync
from streamer_worker.push.endpoints import AllowedEndpoints
from streamer_worker.settings import NotifierSettings
from support import unique_prefix

NOT_FOUND = (404, "NOT_FOUND")


@pytest.fixture(scope="module", params=["moto", pytest.param("local", marks=pytest.mark.local)])
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Give the URL and the prefix of empty tables."""
    url, prefix = request.getfixturevalue(f"{request.param}_url"), unique_prefix()
    with open_stores_sync(endpoint_url=url, prefix=prefix) as stores:
        stores.create_tables()
    return url, prefix


@pytest.fixture(scope="module")
def function(place: tuple[str, str]) -> Iterator[Function]:
    with imported(*place) as function:
        yield function


def code_of(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    """Return the status and the code of an answer that is a refusal."""
    status, document = answer
    assert set(document) - {"request_id"} == {"type", "code", "message"}
    assert document["type"] == "refused"
    return status, document["code"]


def run(place: tuple[str, str], request_id: str, result: dict[str, Any] | None) -> None:
    """Run a request as a worker does. Without a result it fails."""
    url, prefix = place

    async def work() -> None:
        async with open_stores(endpoint_url=url, prefix=prefix) as stores:
            claim = await reclaimed(stores, request_id)
            await stores.requests.update_progress(claim, 0.5, "Half way")
            if result is None:
                await stores.requests.fail(claim, "no such month", "NO_MONTH")
            else:
                await stores.requests.complete(claim, result)

    anyio.run(work)


def test_connect_stores_who_the_authorizer_named(function: Function) -> None:
    """The user, the tenant and the endpoint are those of the event, and the times are now."""
    client = function.client("ada", tenantId="acme")
    assert client.connect() == 200
    stored = function.stores.connections.get(client.connection_id)
    assert (stored.user_id, stored.tenant_id) == ("ada", "acme")
    assert stored.endpoint == "wss://abc123.execute-api.eu-west-1.amazonaws.com/prod"
    assert stored.last_ping == stored.connected_at
    assert abs(datetime.now(UTC) - stored.connected_at) < timedelta(minutes=1)
    allowed = AllowedEndpoints(NotifierSettings().hosts)
    assert allowed.url_of(stored.endpoint).startswith("https://abc123.execute-api.")


def test_a_user_without_a_tenant_is_a_tenant_alone(function: Function) -> None:
    """Limits for each tenant then hold for this user."""
    client = function.client("grace")
    client.connect()
    assert function.stores.connections.get(client.connection_id).tenant_id == "grace"


def test_a_second_connect_replaces_the_first(function: Function) -> None:
    """An id that API Gateway gives again belongs to the user who connects."""
    client = function.client("ada")
    client.connect()
    client.user = "grace"
    assert client.connect() == 200
    assert function.stores.connections.get(client.connection_id).user_id == "grace"


def test_a_client_without_a_user_is_refused(function: Function) -> None:
    """On each route that acts for a user, whatever the client says it is."""
    client = function.anonymous()
    assert client.connect(authorizer={"principalId": ""}) == 401
    claimed = {"user_id": "ada", "principalId": "ada", "requestContext": {"authorizer": "ada"}}
    for type_name in ("request", "read", "subscribe"):
        message = claimed | {"type": type_name, "action": "report", "request_id": "r"}
        assert code_of(client.send(**message)) == (401, "UNAUTHORIZED")
    with pytest.raises(NotFound):
        function.stores.connections.get(client.connection_id)


def test_anonymous_clients_do_not_share_a_user(place: tuple[str, str]) -> None:
    """ALLOW_ANONYMOUS=1: each connection is a user of its own."""
    with imported(*place, ALLOW_ANONYMOUS="1") as function:
        one, other = function.anonymous(), function.anonymous()
        assert (one.connect(), other.connect()) == (200, 200)
        request_id = one.send(action="report")[1]["request_id"]
        assert one.send(type="read", request_id=request_id)[0] == 200
        assert code_of(other.send(type="read", request_id=request_id)) == NOT_FOUND
        assert function.stores.connections.get(one.connection_id).tenant_id == "anonymous"


def test_the_management_endpoint_replaces_a_custom_domain(place: tuple[str, str]) -> None:
    """Workers post to the API's own name, not to the one by which clients connect."""
    own = "wss://abc123.execute-api.eu-west-1.amazonaws.com/prod"
    with imported(*place, MANAGEMENT_ENDPOINT=own) as function:
        client = function.client()
        assert client.connect(domainName="ws.example.com", stage="v1") == 200
        assert function.stores.connections.get(client.connection_id).endpoint == own


def test_disconnect_removes_the_connection_with_its_subscriptions(function: Function) -> None:
    """Its request stays. A second $disconnect, and one of an unknown connection, succeed."""
    client = function.client()
    client.connect()
    request_id = client.send(action="report")[1]["request_id"]
    client.send(type="subscribe", request_id=request_id)
    for _ in range(2):
        assert client.call(client.event("$disconnect", disconnectReason=""))[0] == 200
    with pytest.raises(NotFound):
        function.stores.connections.get(client.connection_id)
    assert function.stores.subscriptions.get_by_connection(client.connection_id) == []
    assert function.stores.requests.get(request_id).status is RequestStatus.PENDING


def test_ping_refreshes_the_connection(function: Function) -> None:
    """LastPing moves, and ConnectedAt does not."""
    client = function.client()
    client.connect()
    before = function.stores.connections.get(client.connection_id)
    assert client.send(type="ping") == (200, {"type": "pong"})
    after = function.stores.connections.get(client.connection_id)
    assert before.last_ping is not None
    assert after.last_ping is not None
    assert after.last_ping > before.last_ping
    assert after.connected_at == before.connected_at


def test_ping_of_a_removed_connection_says_to_connect_again(function: Function) -> None:
    """The reaper may have removed it, and nothing would be pushed to it any more."""
    client = function.client()
    client.connect()
    function.stores.connections.delete(client.connection_id)
    assert code_of(client.send(type="ping")) == (410, "CONNECTION_GONE")


def test_a_request_is_stored_for_its_sender(function: Function) -> None:
    """The connection, the user and the tenant are the sender's, whatever the message says."""
    client = function.client("ada", tenantId="acme")
    payload = {"month": "2026-11", "rows": [1, 2.5, None, {"deep": "ü"}]}
    status, answer = client.send(
        action="report", payload=payload, user_id="eve", tenant_id="evil", connection_id="x"
    )
    assert (status, answer["type"], answer["status"]) == (200, "accepted", "PENDING")
    stored = function.stores.requests.get(answer["request_id"])
    assert (stored.action, stored.payload) == ("report", payload)
    sender = (stored.connection_id, stored.user_id, stored.tenant_id)
    assert sender == (client.connection_id, "ada", "acme")


def test_a_repeated_request_is_accepted_and_stored_once(function: Function) -> None:
    """Also over another connection of the user, and with a payload of many kinds of values."""
    client = function.client()
    payload: dict[str, Any] = {
        "a": [0.1, -2.50, 10**20, 1e-7, True, None, "", {}],
        "b": {"c": [[]]},
    }
    message: dict[str, Any] = {
        "action": "report",
        "payload": payload,
        "request_id": f"{client.user}/repeated",
    }
    first = client.send(**message)
    assert first[0] == 200
    stored = function.stores.requests.get(message["request_id"])
    assert client.send(**message) == first
    assert function.client(client.user).send(type="request", **message) == first
    assert function.stores.requests.get(message["request_id"]) == stored


def test_a_repeated_request_is_answered_with_its_state(
    function: Function, place: tuple[str, str]
) -> None:
    """A client that missed the end of its request learns of it."""
    client = function.client()
    message = {"action": "report", "request_id": f"{client.user}/ended"}
    client.send(**message)
    run(place, message["request_id"], {})
    answer = client.send(**message)[1]
    assert (answer["type"], answer["status"], answer["result"]) == ("accepted", "COMPLETED", {})


def test_an_id_that_is_taken_is_a_conflict(function: Function) -> None:
    """The answer is the same for another user's request and for a different one of the user."""
    ada, eve = function.client(), function.client()
    request_id = f"{ada.connection_id}/taken"
    message = {"action": "report", "payload": {"n": 1}, "request_id": request_id}
    ada.send(**message)
    answers = [
        eve.send(**message),
        ada.send(**message | {"payload": {"n": 2}}),
        ada.send(**message | {"action": "bill"}),
    ]
    assert [code_of(answer) for answer in answers] == 3 * [(409, "ID_TAKEN")]
    assert answers[0] == answers[1] == answers[2]
    assert ada.user not in str(answers[0])


def test_a_producers_request_belongs_to_no_client(function: Function) -> None:
    """A request without a user is found by nobody."""
    client = function.client()
    request = function.module.AsyncRequest(action="report", request_id=f"{client.user}/none")
    function.stores.requests.enqueue(request)
    assert code_of(client.send(type="read", request_id=request.request_id)) == NOT_FOUND


def test_a_user_cannot_find_requests_of_another(function: Function) -> None:
    """Read and subscribe answer as for a request that does not exist."""
    ada, eve = function.client(), function.client()
    request_id = ada.send(action="report", payload={"secret": 1})[1]["request_id"]
    for type_name in ("read", "subscribe"):
        foreign = eve.send(type=type_name, request_id=request_id)
        assert code_of(foreign) == NOT_FOUND
        assert foreign[1].pop("request_id") == request_id
        unknown = eve.send(type=type_name, request_id="nothing")
        assert unknown[1].pop("request_id") == "nothing"
        assert foreign == unknown
    eve.send(type="unsubscribe", request_id=request_id)
    assert function.stores.subscriptions.get_by_connection(eve.connection_id) == []


def test_a_client_subscribes_to_a_request_of_its_user(function: Function) -> None:
    """Over another connection, until it unsubscribes, which may be repeated."""
    sender = function.client()
    reader = function.client(sender.user)
    request_id = sender.send(action="report")[1]["request_id"]
    status, answer = reader.send(type="subscribe", request_id=request_id)
    assert (status, answer["type"], answer["status"]) == (200, "subscribed", "PENDING")
    (stored,) = function.stores.subscriptions.get_by_request(request_id)
    assert stored.connection_id == reader.connection_id
    unsubscribed = (200, {"type": "unsubscribed", "request_id": request_id})
    assert reader.send(type="unsubscribe", request_id=request_id) == unsubscribed
    assert reader.send(type="unsubscribe", request_id=request_id) == unsubscribed
    assert function.stores.subscriptions.get_by_request(request_id) == []


def test_a_client_that_comes_back_reads_its_request(
    function: Function, place: tuple[str, str]
) -> None:
    """Waiting, then completed, over a new connection."""
    client = function.client()
    request_id = client.send(action="report")[1]["request_id"]
    expected = {"type": "state", "request_id": request_id, "action": "report"}
    waiting = {"status": "PENDING", "percentage": 0, "message": ""}
    assert client.send(type="read", request_id=request_id) == (200, expected | waiting)
    result = {"rows": [1, 0.5], "raw": b"\x00\xff", "tags": {"b", "a"}}
    run(place, request_id, result)
    back = function.client(client.user)
    status, document = back.send(type="read", request_id=request_id)
    assert (status, document["status"], document["message"]) == (200, "COMPLETED", "Half way")
    assert document["result"] == {"rows": [1, 0.5], "raw": "AP8=", "tags": ["a", "b"]}
    assert "error" not in document


def test_a_failed_request_is_read_with_its_error(
    function: Function, place: tuple[str, str]
) -> None:
    """The code and the text are those that the worker would push."""
    client = function.client()
    request_id = client.send(action="report")[1]["request_id"]
    run(place, request_id, None)
    document = client.send(type="read", request_id=request_id)[1]
    assert (document["status"], "result" in document) == ("FAILED", False)
    assert document["error"] == {"code": "NO_MONTH", "message": "no such month"}


def test_a_result_that_is_too_long_for_a_message_is_omitted(
    function: Function, place: tuple[str, str]
) -> None:
    """API Gateway sends at most 128 KB. The answer says that there is a result."""
    client = function.client()
    request_id = client.send(action="report")[1]["request_id"]
    run(place, request_id, {"text": "ü" * 70_000})
    status, document = client.send(type="read", request_id=request_id)
    assert (status, document["status"]) == (200, "COMPLETED")
    assert (document["result"], document["result_omitted"]) == (None, True)
