"""examples/lambda: what clients must not send, and what goes wrong behind the function."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from examples.lambda_function import Client, Function, imported
from examples.test_lambda import code_of
from integration.proxy import answering, proxy_to
from streamer_store import open_stores_sync
from support import unique_prefix

BAD = (400, "BAD_MESSAGE")
TOO_LARGE = (400, "TOO_LARGE")
LONG = "x" * 3000


@pytest.fixture(scope="module")
def place(moto_url: str) -> tuple[str, str]:
    """Give the URL and the prefix of empty tables."""
    prefix = unique_prefix()
    with open_stores_sync(endpoint_url=moto_url, prefix=prefix) as stores:
        stores.create_tables()
    return moto_url, prefix


@pytest.fixture(scope="module")
def function(place: tuple[str, str]) -> Iterator[Function]:
    with imported(*place) as function:
        yield function


@pytest.fixture
def client(function: Function) -> Iterator[Client]:
    """Give a client. At the end of the test nothing is stored for its connection."""
    client = function.client()
    yield client
    assert list(function.stores.requests.get_by_connection(client.connection_id)) == []
    assert function.stores.subscriptions.get_by_connection(client.connection_id) == []


@pytest.mark.parametrize("route", ["$default", "read", "subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", BAD),
        ("hello", BAD),
        ('{"action": "report"', BAD),
        ('{"action": "report", "payload": {"n": NaN}}', BAD),
        ('{"action": "report", "payload": {"n": -Infinity}}', BAD),
        ("[" * 100_000, BAD),
        ("9" * 5000, BAD),
        ("[]", BAD),
        ('"report"', BAD),
        ("null", BAD),
        ("{}", BAD),
        (json.dumps({"action": "report", "payload": {"text": "x" * 131_072}}), TOO_LARGE),
        ('{"action": "report", "payload": {"text": "' + "ü" * 65_536 + '"}}', TOO_LARGE),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_message_that_cannot_be_read_is_refused(
    client: Client, route: str, text: str, expected: tuple[int, str]
) -> None:
    """On each route that reads messages, before anything is stored."""
    assert code_of(client.send_text(text, route)) == expected


@pytest.mark.parametrize("body", [7, ["report"], {"action": "report"}], ids=repr)
def test_a_body_that_is_no_text_is_refused(client: Client, body: Any) -> None:
    """API Gateway sends none, but a test event may have one."""
    assert code_of(client.call(client.event("$default") | {"body": body})) == BAD


@pytest.mark.parametrize("event", [{}, {"requestContext": {}}], ids=repr)
def test_an_event_without_a_route_is_answered(client: Client, event: dict[str, Any]) -> None:
    """It is not raised: the log has it, and the caller a code."""
    assert client.call(event)[0] == 500


def test_a_binary_message_is_refused(client: Client) -> None:
    """API Gateway hands it over as base64."""
    body = base64.b64encode(b'{"action": "report"}').decode()
    event = client.event("$default", body) | {"isBase64Encoded": True}
    assert code_of(client.call(event)) == BAD
    assert code_of(client.call(client.event("$default"))) == BAD


@pytest.mark.parametrize("action", [None, "", 7, ["report"], {}, False, "\ud800"], ids=ascii)
def test_a_request_needs_an_action(client: Client, action: Any) -> None:
    """The action is text."""
    assert code_of(client.send(action=action)) == BAD


@pytest.mark.parametrize("payload", ["text", 7, [], [{}], True])
def test_a_payload_that_is_no_object_is_refused(client: Client, payload: Any) -> None:
    """Handlers get mappings."""
    assert code_of(client.send(action="report", payload=payload)) == BAD


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 1e400}',
        '{"n": 1e130}',
        '{"n": 123456789012345678901234567890123456789}',
        '{"s": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"deep": ' + "[" * 40 + "]" * 40 + "}",
    ],
)
def test_a_payload_that_cannot_be_stored_is_refused(client: Client, text: str) -> None:
    """The limits of DynamoDB: numbers, nesting, and half surrogate pairs."""
    assert code_of(client.send_text(f'{{"action": "report", "payload": {text}}}')) == (
        400,
        "INVALID",
    )


@pytest.mark.parametrize(
    "request_id",
    [None, "", 7, [], LONG, "\ud800"],
    ids=["none", "empty", "number", "list", "long", "half"],
)
def test_a_wrong_request_id_is_refused(client: Client, request_id: Any) -> None:
    """By each route that takes one."""
    for type_name in ("request", "read", "subscribe", "unsubscribe"):
        message = {"type": type_name, "action": "report", "request_id": request_id}
        assert code_of(client.send(**message)) == BAD, type_name


def test_a_refusal_names_the_request_that_the_message_names(client: Client) -> None:
    """So that a client with several requests knows which one is refused."""
    _, document = client.send(type="read", request_id="r-unknown")
    assert (document["code"], document["request_id"]) == ("NOT_FOUND", "r-unknown")
    assert "request_id" not in client.send(type="read", request_id=7)[1]


@pytest.mark.parametrize("type_name", ["subscibe", "", 7, None, {}, "$connect"], ids=repr)
def test_an_unknown_type_is_no_request(client: Client, type_name: Any) -> None:
    """API Gateway sends what no route is named for to the default route."""
    event = client.event("$default", json.dumps({"type": type_name, "action": "report"}))
    status, document = client.call(event)
    assert code_of((status, document)) == BAD
    assert "request, ping, read, subscribe, unsubscribe" in document["message"]


def test_only_listed_actions_can_be_requested(place: tuple[str, str]) -> None:
    """ACTIONS lists them, with commas or spaces."""
    with imported(*place, ACTIONS="report, bill") as function:
        client = function.client()
        assert client.send(action="bill")[0] == 200
        assert client.send(action="report")[0] == 200
        for action in ("delete_all", "report,", "Report"):
            assert code_of(client.send(action=action)) == (400, "UNKNOWN_ACTION")


def test_a_message_of_the_largest_size_is_stored(function: Function) -> None:
    """128 KB, which API Gateway takes in frames of 32 KB."""
    empty = len(json.dumps({"action": "report", "payload": {"text": ""}}))
    text = json.dumps({"action": "report", "payload": {"text": "x" * (131_072 - empty)}})
    assert function.client().send_text(text)[0] == 200


@pytest.mark.parametrize("tenant", [7, LONG], ids=["number", "long"])
def test_a_wrong_answer_of_the_authorizer_connects_nobody(client: Client, tenant: Any) -> None:
    """It cannot be stored, so the client is refused."""
    assert client.connect(authorizer={"principalId": "ada", "tenantId": tenant}) in {400, 500}


def test_an_outage_asks_the_client_to_try_again(
    place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the cause, and the answer nothing of it."""
    url, prefix = place
    with proxy_to(url) as proxy, imported(proxy.url, prefix) as function:
        proxy.fault = answering(400, "ThrottlingException")
        status, document = function.client().send(action="report")
    assert code_of((status, document)) == (503, "UNAVAILABLE")
    assert prefix not in str(document)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_unexpected_error_is_logged_and_not_shown(
    place: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A denied call, for example: a client gets a code, and no stack trace."""
    url, prefix = place
    with proxy_to(url) as proxy, imported(proxy.url, prefix) as function:
        proxy.fault = answering(400, "AccessDeniedException")
        answers = [function.client().send(action="report"), function.client().send(type="ping")]
        assert function.client().connect() == 500
    assert [code_of(answer) for answer in answers] == 2 * [(500, "INTERNAL_ERROR")]
    assert not any(word in str(answers) for word in (prefix, "Denied", "Traceback", ".py"))
    assert "AccessDenied" in caplog.text
