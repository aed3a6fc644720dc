"""A Lambda function behind a WebSocket API of API Gateway: one function here for each route.

`handler` is the entry point. Deploy it once for all routes, or once for each group of routes with a
policy of its own, as template.yaml does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from api_gateway import (
    MAX_BYTES,
    Answer,
    Caller,
    Event,
    Refused,
    caller_of,
    connection_id_of,
    endpoint_of,
    failure,
    message_of,
    request_id_of,
    success,
    text_of,
    to_text,
)

from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    Connection,
    InvalidInput,
    NotFound,
    StoreUnavailable,
    SystemClock,
    open_stores_sync,
)

MANAGEMENT_ENDPOINT: Final = os.environ.get("MANAGEMENT_ENDPOINT", "")
"""The API's own name, to which workers post. Empty: the name by which clients connect."""
ALLOW_ANONYMOUS: Final = os.environ.get("ALLOW_ANONYMOUS") == "1"
ACTIONS: Final = frozenset(os.environ.get("ACTIONS", "").replace(",", " ").split())
"""The actions that clients may request. Empty: all."""

stores = open_stores_sync()  # once for each environment of the function, while it starts
_log: Final = logging.getLogger(__name__)


def handler(event: Event, _context: object = None) -> Answer:
    """Answer an event of any route. Raises nothing: a client sees a code, and the log has more."""
    route = "an event without a route"
    try:
        route = event["requestContext"]["routeKey"]
        return success(ROUTES[route](event))
    except Refused as refused:
        return failure(refused, event)
    except InvalidInput as error:
        return failure(Refused(400, "INVALID", error.message), event)
    except StoreUnavailable:
        _log.warning("%s: DynamoDB is unavailable", route, exc_info=True)
        text = "try again; a request that has a request_id is stored once"
        return failure(Refused(503, "UNAVAILABLE", text), event)
    except Exception:  # noqa: BLE001  the log has it, and the client a code
        _log.exception("%s failed", route)
        text = "the message could not be processed"
        return failure(Refused(500, "INTERNAL_ERROR", text), event)


def connect(event: Event) -> dict[str, Any]:
    """Store the connection. Clients see the status of the answer, and not its body."""
    caller = _caller(event)
    now = SystemClock().now()
    stores.connections.save(
        Connection(
            connection_id=caller.connection_id,
            user_id=caller.user_id,
            tenant_id=caller.tenant_id,
            endpoint=MANAGEMENT_ENDPOINT or endpoint_of(event),
            connected_at=now,
            last_ping=now,
        )
    )
    return {"type": "connected"}


def disconnect(event: Event) -> dict[str, Any]:
    """Remove the connection and its subscriptions. Its requests are kept, and run."""
    stores.disconnect(connection_id_of(event))
    return {"type": "disconnected"}


def ping(event: Event) -> dict[str, Any]:
    """Note that the client is there. Raises Refused if the connection was removed."""
    try:
        stores.connections.update_last_ping(connection_id_of(event))
    except NotFound:
        raise Refused(410, "CONNECTION_GONE", "the connection was removed: connect again") from None
    return {"type": "pong"}


def enqueue(event: Event) -> dict[str, Any]:
    """Store a request of the client, once for each `request_id`."""
    caller, message = _caller(event), message_of(event)
    if message.get("type", "request") != "request":
        known = ", ".join(["request", *(route for route in ROUTES if not route.startswith("$"))])
        raise Refused(400, "BAD_MESSAGE", f"there is no such type; there are {known}")
    request = _new_request(caller, message)
    try:
        stored = stores.requests.enqueue(request)
    except AlreadyExists:
        existing = _find(caller, request.request_id)
        if existing is None or not _is_same(existing, request):
            text = "a request with this id exists: choose another id"
            raise Refused(409, "ID_TAKEN", text) from None
        stored = existing
    return _state("accepted", stored)


def subscribe(event: Event) -> dict[str, Any]:
    """Let the connection receive the messages about a request of the same user."""
    caller, request_id = _caller(event), request_id_of(message_of(event))
    _requested(caller, request_id)
    stores.subscriptions.subscribe(caller.connection_id, request_id)
    # Read after the subscription: a request that ended before it sends no message any more.
    return _state("subscribed", _requested(caller, request_id))


def unsubscribe(event: Event) -> dict[str, Any]:
    """End a subscription of the connection. Succeeds if there is none."""
    request_id = request_id_of(message_of(event))
    stores.subscriptions.unsubscribe(connection_id_of(event), request_id)
    return {"type": "unsubscribed", "request_id": request_id}


def read(event: Event) -> dict[str, Any]:
    """Return the state of a request of the same user."""
    return _state("state", _requested(_caller(event), request_id_of(message_of(event))))


ROUTES: Final[Mapping[str, Callable[[Event], dict[str, Any]]]] = {
    "$connect": connect,
    "$disconnect": disconnect,
    "$default": enqueue,
    "ping": ping,
    "read": read,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
}


def _caller(event: Event) -> Caller:
    return caller_of(event, allow_anonymous=ALLOW_ANONYMOUS)


def _new_request(caller: Caller, message: Mapping[str, Any]) -> AsyncRequest:
    """Return the request that a message describes. Raises Refused."""
    action = text_of(message, "action")
    if ACTIONS and action not in ACTIONS:
        raise Refused(400, "UNKNOWN_ACTION", "there is no such action")
    payload = message.get("payload")
    if payload is not None and not isinstance(payload, dict):
        raise Refused(400, "BAD_MESSAGE", "payload must be an object")
    return AsyncRequest(
        action=action,
        payload=payload,
        request_id=request_id_of(message) if "request_id" in message else "",
        connection_id=caller.connection_id,
        user_id=caller.user_id,
        tenant_id=caller.tenant_id,
    )


def _is_same(existing: AsyncRequest, request: AsyncRequest) -> bool:
    """Whether the client repeats a request, perhaps over another connection."""
    return (existing.action, existing.payload) == (request.action, request.payload)


def _find(caller: Caller, request_id: str) -> AsyncRequest | None:
    """Return a request of the caller. None: there is none, or it is another user's."""
    try:
        request = stores.requests.get(request_id)
    except NotFound:
        return None
    return request if request.user_id == caller.user_id else None


def _requested(caller: Caller, request_id: str) -> AsyncRequest:
    """Return a request of the caller. Raises Refused."""
    request = _find(caller, request_id)
    if request is None:
        raise Refused(404, "NOT_FOUND", "there is no such request")
    return request


def _state(type_name: str, request: AsyncRequest) -> dict[str, Any]:
    """Return the answer with the state of a request. A result that makes it too long is omitted."""
    document: dict[str, Any] = {
        "type": type_name,
        "request_id": request.request_id,
        "action": request.action,
        "status": request.status,
        "percentage": round(100 * request.progress, 2),
        "message": request.progress_message or "",
    }
    if request.error is not None:
        document["error"] = {"code": request.error_code or "", "message": request.error}
    if request.result is None:
        return document
    whole = document | {"result": request.result}
    if len(to_text(whole).encode()) <= MAX_BYTES:
        return whole
    return document | {"result": None, "result_omitted": True}
