"""A handler's own message to clients (pure)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from streamer_store import ValidationError
from streamer_store.validation import MAX_HASH_KEY_BYTES
from streamer_store.values import short_repr
from streamer_worker.handlers.serialization import serializable
from streamer_worker.json_values import to_json
from streamer_worker.sanitize import message_of

# API Gateway allows 128 KB a message. The rest is for the fields beside the handler's own, of which
# a request id of 2,048 control characters takes 12 KB.
MAX_BYTES: Final = 115_000


class MessageInvalid(ValidationError):
    """A message that JSON cannot hold or that is too long, or a broadcast to nobody."""


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """What a handler sends. The values can be pickled.

    data: the message, as JSON.
    user, tenant: whose connections get it, at most one of both. None: the request's own connection.
    """

    data: str
    user: str | None = None
    tenant: str | None = None

    @property
    def method(self) -> str:
        """The method of the context that sends it."""
        return "send" if self.user is None and self.tenant is None else "broadcast"


def to_connection(message: Any) -> ClientMessage:
    """Return a message to the request's own connection. Raises MessageInvalid."""
    return ClientMessage(_json(message))


def to_connections_of(
    message: Any, *, user: str | None = None, tenant: str | None = None
) -> ClientMessage:
    """Return a message to all connections of a user or of a tenant. Raises MessageInvalid."""
    arguments: tuple[tuple[str, object], ...] = (("user", user), ("tenant", tenant))
    named = {name: value for name, value in arguments if value is not None}
    if len(named) != 1:
        count = "both" if named else "neither"
        raise MessageInvalid("broadcast", f"needs `user` or `tenant`, and has {count}")
    for name, value in named.items():
        if not isinstance(value, str) or not value:
            text = f"must be a text that is not empty, not {short_repr(value)}"
            raise MessageInvalid(name, text)
        if len(value.encode(errors="replace")) > MAX_HASH_KEY_BYTES:
            raise MessageInvalid(name, f"is longer than {MAX_HASH_KEY_BYTES} bytes")
    return ClientMessage(_json(message), user=_exact(user), tenant=_exact(tenant))


def _exact(text: str | None) -> str | None:
    """Return the text without its subclass, which another process may not be able to unpickle."""
    return None if text is None else str.__str__(text)


def _json(value: Any) -> str:
    """Return a value as JSON. Raises MessageInvalid if it has none, or more than MAX_BYTES."""
    try:
        data = json.dumps(
            serializable(value),
            default=_to_json,
            ensure_ascii=False,
            separators=(",", ":"),
            allow_nan=False,
        )
        size = len(data.encode())
    except Exception as error:
        text = f"cannot be written as JSON: {message_of(error)}"
        raise MessageInvalid("message", text) from error
    if size > MAX_BYTES:
        text = (
            f"has {size} bytes of JSON, and may have {MAX_BYTES}: send a part, or where to read it"
        )
        raise MessageInvalid("message", text)
    return data


def _to_json(value: object) -> Any:
    """Convert the values that a table can hold. Raises TypeError for any other."""
    try:
        return to_json(value)
    except TypeError as error:
        raise TypeError(f"{type(value).__name__} has no form in JSON") from error
