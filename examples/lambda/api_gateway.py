"""Events of a WebSocket API of API Gateway, and the answers that it takes (pure)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

MAX_BYTES: Final = 128 * 1024
"""The largest message of a client, and the largest answer (Amazon API Gateway quotas)."""

MAX_ID_BYTES: Final = 256
"""The longest id of a request that clients may choose. With that of a connection it is a key."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Event = Mapping[str, Any]
Answer = dict[str, Any]
"""`statusCode` and `body`, the text of a JSON object."""


class Refused(Exception):
    """A client cannot have what it asks for. The text is for the client.

    - `status`: the HTTP status of the answer.
    - `code`: the reason, for programs.
    """

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent an event, and over which connection."""

    connection_id: str
    user_id: str
    tenant_id: str


def connection_id_of(event: Event) -> str:
    """Return the id that API Gateway gave to the connection."""
    connection_id: str = event["requestContext"]["connectionId"]
    return connection_id


def caller_of(event: Event, *, allow_anonymous: bool) -> Caller:
    """Return who sent the event, as the authorizer of `$connect` said.

    API Gateway keeps the authorizer's answer with the connection, and adds it to each event. A user
    without a tenant is a tenant alone. With `allow_anonymous` a connection without a user is a
    user of its own. Raises Refused.
    """
    connection_id = connection_id_of(event)
    authorizer = event["requestContext"].get("authorizer") or {}
    if user_id := authorizer.get("principalId"):
        tenant_id = authorizer.get("tenantId") or user_id
        return Caller(connection_id=connection_id, user_id=user_id, tenant_id=tenant_id)
    if allow_anonymous:
        user_id = f"anonymous:{connection_id}"
        return Caller(connection_id=connection_id, user_id=user_id, tenant_id="anonymous")
    raise Refused(401, "UNAUTHORIZED", "the authorizer named no user")


def endpoint_of(event: Event) -> str:
    """Return the URL by which the client connected, without its query."""
    context = event["requestContext"]
    return f"wss://{context['domainName']}/{context['stage']}"


def message_of(event: Event) -> dict[str, Any]:
    """Return the JSON object that the client sent. Raises Refused."""
    body = event.get("body") or ""
    if event.get("isBase64Encoded") or not isinstance(body, str):
        raise Refused(400, "BAD_MESSAGE", "the message is binary: send JSON as text")
    if len(body.encode(errors="surrogatepass")) > MAX_BYTES:
        raise Refused(400, "TOO_LARGE", f"the message has more than {MAX_BYTES} bytes")
    try:
        message = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "BAD_MESSAGE", "the message is not JSON") from error
    if not isinstance(message, dict):
        raise Refused(400, "BAD_MESSAGE", "the message is not a JSON object")
    return message


def text_of(message: Mapping[str, Any], field: str) -> str:
    """Return a field that must be text, and not empty. Raises Refused."""
    value = message.get(field)
    if not isinstance(value, str) or not value:
        raise Refused(400, "BAD_MESSAGE", f"{field} must be text, and not empty")
    if _SURROGATE.search(value):
        raise Refused(400, "BAD_MESSAGE", f"{field} has half a surrogate pair")
    return value


def request_id_of(message: Mapping[str, Any]) -> str:
    """Return the id of a request that the client named. Raises Refused."""
    request_id = text_of(message, "request_id")
    if len(request_id.encode()) > MAX_ID_BYTES:
        raise Refused(400, "BAD_MESSAGE", f"request_id has more than {MAX_ID_BYTES} bytes")
    return request_id


def success(document: Mapping[str, Any]) -> Answer:
    """Return the answer 200 with this document."""
    return {"statusCode": 200, "body": to_text(document)}


def failure(refused: Refused, event: Event) -> Answer:
    """Return the answer that says why the event was refused, with the request that it names."""
    document = {"type": "refused", "code": refused.code, "message": str(refused)}
    with suppress(Refused):  # it names none
        document["request_id"] = request_id_of(message_of(event))
    return {"statusCode": refused.status, "body": to_text(document)}


def to_text(document: Mapping[str, Any]) -> str:
    """Return a document with values of a table as JSON."""
    return json.dumps(document, default=_to_json, ensure_ascii=False, separators=(",", ":"))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _to_json(value: object) -> Any:
    """Convert a value of a table that JSON does not have, as the worker's messages do."""
    match value:
        case Decimal():
            return float(value)
        case bytes():
            return base64.b64encode(value).decode()
        case set() | frozenset():
            return sorted(value)
    raise TypeError(f"{type(value).__name__} is not a type that a table can hold")
