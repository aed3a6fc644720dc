"""A handler's own message to clients (pure)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from streamer_store import ValidationError
from streamer_store.values import short_repr
from streamer_worker.handlers.serialization import serializable
from streamer_worker.json_values import to_json
from streamer_worker.sanitize import message_of

# API Gateway allows 128 KB a message. The rest is for the fields beside the handler's own, of which
# a request id of 2,048 control characters takes 12 KB.
MAX_BYTES: Final = 115_000


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
    """Return a message to the request's own connection. Raises ValidationError."""
    return ClientMessage(_json(message))


def to_connections_of(
    message: Any, *, user: str | None = None, tenant: str | None = None
) -> ClientMessage:
    """Return a message to all connections of a user or of a tenant. Raises ValidationError."""
    arguments: tuple[tuple[str, object], ...] = (("user", user), ("tenant", tenant))
    named = {name: value for name, value in arguments if value is not None}
    if len(named) != 1:
        count = "both" if named else "neither"
        raise ValidationError("broadcast", f"needs `user` or `tenant`, and has {count}")
    for name, value in named.items():
        if not isinstance(value, str) or not value:
            raise ValidationError(
                name, f"must be a text that is not empty, not {short_repr(value)}"
            )
    return ClientMessage(_json(message), user=user, tenant=tenant)


def _json(value: Any) -> str:
    """Return a value as JSON. Raises ValidationError if it has none, or more than MAX_BYTES."""
    try:
        data = json.dumps(
            serializable(value),
            default=to_json,
            ensure_ascii=False,
            separators=(",", ":"),
            allow_nan=False,
        )
        size = len(data.encode())
    except Exception as error:
        text = f"cannot be written as JSON: {message_of(error)}"
        raise ValidationError("message", text) from error
    if size > MAX_BYTES:
        text = (
            f"has {size} bytes of JSON, and may have {MAX_BYTES}: send a part, or where to read it"
        )
        raise ValidationError("message", text)
    return data
