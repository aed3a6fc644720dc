"""What the Lambda functions behind the routes of a WebSocket API do, over the stores."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from local_gateway.messages import (
    ClientMessage,
    Ping,
    Read,
    Refused,
    Request,
    Subscribe,
    Unsubscribe,
    encode,
    encode_state,
    parse,
)
from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    Clock,
    Connection,
    InvalidInput,
    NotFound,
    StoreError,
    Stores,
)

CONNECTION_GONE: Final = "CONNECTION_GONE"
_TENANT: Final = "local"


@dataclass(frozen=True, slots=True)
class Caller:
    """The connection that has sent a message, and its user."""

    connection_id: str
    user_id: str


class Routes:
    """The routes `$connect`, `$disconnect`, and one for each type of message.

    A user can read and subscribe to the requests of this user only. A request of another user is
    answered as one that does not exist.
    """

    def __init__(self, *, stores: Stores, actions: Collection[str], clock: Clock) -> None:
        """Create the routes. `actions`: those that clients may request."""
        self._stores = stores
        self._actions = frozenset(actions)
        self._clock = clock

    async def connect(self, caller: Caller, endpoint: str) -> None:
        """Save the connection. `endpoint`: where the worker posts to. Raises StoreError."""
        now = self._clock.now()
        await self._stores.connections.save(
            Connection(
                connection_id=caller.connection_id,
                user_id=caller.user_id,
                tenant_id=_TENANT,
                endpoint=endpoint,
                connected_at=now,
                last_ping=now,
            )
        )

    async def disconnect(self, caller: Caller) -> None:
        """Delete the connection and its subscriptions. Its requests run on. Raises StoreError."""
        await self._stores.disconnect(caller.connection_id)

    async def answer(self, caller: Caller, text: str) -> str:
        """Return the answer to a text frame. Raises Refused.

        The codes of Refused are BAD_MESSAGE, UNKNOWN_ACTION, INVALID, NOT_FOUND, ID_TAKEN,
        UNAVAILABLE and CONNECTION_GONE. After the last one, the client must connect again.
        """
        message = parse(text)
        try:
            return await self._route(caller, message)
        except InvalidInput as error:
            raise Refused("INVALID", error.message, _request_id(message)) from error
        except StoreError as error:
            reason = "the tables cannot be reached: send the message again"
            raise Refused("UNAVAILABLE", reason, _request_id(message)) from error

    async def _route(self, caller: Caller, message: ClientMessage) -> str:
        match message:
            case Ping():
                return await self._ping(caller)
            case Request():
                return await self._request(caller, message)
            case Subscribe():
                return await self._subscribe(caller, message.request_id)
            case Unsubscribe():
                await self._stores.subscriptions.unsubscribe(
                    caller.connection_id, message.request_id
                )
                return encode({"type": "unsubscribed", "request_id": message.request_id})
            case Read():
                return encode_state("state", await self._own(caller, message.request_id))

    async def _ping(self, caller: Caller) -> str:
        try:
            await self._stores.connections.update_last_ping(caller.connection_id)
        except NotFound:
            raise _gone() from None
        return encode({"type": "pong"})

    async def _request(self, caller: Caller, message: Request) -> str:
        if message.action not in self._actions:
            known = ", ".join(sorted(self._actions))
            raise Refused("UNKNOWN_ACTION", f"use one of {known}", message.request_id)
        request = AsyncRequest(
            action=message.action,
            payload=message.payload,
            request_id=message.request_id or "",
            connection_id=caller.connection_id,
            user_id=caller.user_id,
            tenant_id=_TENANT,
        )
        try:
            # Stored only if the connection is there, whose client waits for the result.
            stored = await self._stores.requests.enqueue_with_subscriptions(request, {})
        except AlreadyExists:
            return await self._repeated(caller, message)
        except NotFound:
            raise _gone(message.request_id) from None
        return encode_state("accepted", stored)

    async def _repeated(self, caller: Caller, message: Request) -> str:
        """Answer a message that was sent again, because its first answer was lost."""
        request_id = str(message.request_id)
        try:
            request = await self._own(caller, request_id)
        except Refused:
            request = None
        if request is None or (request.action, request.payload) != (
            message.action,
            message.payload,
        ):
            raise Refused("ID_TAKEN", "choose another request_id", request_id)
        return encode_state("accepted", request)

    async def _subscribe(self, caller: Caller, request_id: str) -> str:
        await self._own(caller, request_id)
        await self._stores.subscriptions.subscribe(caller.connection_id, request_id)
        # Read after the subscription: a request that has ended in between sends no message.
        return encode_state("subscribed", await self._own(caller, request_id))

    async def _own(self, caller: Caller, request_id: str) -> AsyncRequest:
        """Return a request of the caller's user. Raises Refused for any other, and for none."""
        try:
            request = await self._stores.requests.get(request_id)
        except NotFound:
            request = None
        if request is None or request.user_id != caller.user_id:
            raise Refused("NOT_FOUND", "you have no such request", request_id)
        return request


def _gone(request_id: str | None = None) -> Refused:
    return Refused(CONNECTION_GONE, "this connection was removed: connect again", request_id)


def _request_id(message: ClientMessage) -> str | None:
    return None if isinstance(message, Ping) else message.request_id
