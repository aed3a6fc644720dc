"""The messages of clients, and the answers to them. All are JSON objects with a `type`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from streamer_store import AsyncRequest
from streamer_worker.json_values import to_json
from streamer_worker.push.messages import MAX_BYTES

_MAX_REASON_CHARS: Final = 300
RequestId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ping(_Message):
    """The client is there. Without one for 24 hours, the row of its connection expires."""

    type: Literal["ping"]


class Request(_Message):
    """Run `action`. The client may choose the id, so that it can send the message again."""

    type: Literal["request"]
    action: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    payload: dict[str, Any] = {}
    request_id: RequestId | None = None


class Subscribe(_Message):
    """Send messages about a request to this connection."""

    type: Literal["subscribe"]
    request_id: RequestId


class Unsubscribe(_Message):
    """Send no more messages about a request, unless this connection has made it."""

    type: Literal["unsubscribe"]
    request_id: RequestId


class Read(_Message):
    """Answer with the state of a request."""

    type: Literal["read"]
    request_id: RequestId


def _with_type(message: object) -> object:
    """Take a message without a type as a request."""
    return {"type": "request"} | message if isinstance(message, dict) else message


ClientMessage = Annotated[
    Ping | Request | Subscribe | Unsubscribe | Read,
    Field(discriminator="type"),
    BeforeValidator(_with_type),
]
_ADAPTER: Final[TypeAdapter[ClientMessage]] = TypeAdapter(ClientMessage)


class Refused(Exception):
    """A message is refused. `code` is for programs, `request_id` is that of the message, if any."""

    def __init__(self, code: str, reason: str, request_id: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason[:_MAX_REASON_CHARS]
        self.request_id = request_id

    def answer(self) -> str:
        """Return the JSON that is sent to the client."""
        about = {} if self.request_id is None else {"request_id": self.request_id}
        return encode({"type": "refused", "code": self.code, "message": self.reason} | about)


def parse(text: str) -> ClientMessage:
    """Return the message in a text frame. Raises Refused with the code BAD_MESSAGE."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise Refused("BAD_MESSAGE", "; ".join(map(_fault, error.errors()))) from None


def encode(message: dict[str, Any]) -> str:
    """Return the JSON of a message of the gateway."""
    return json.dumps(message, default=to_json, ensure_ascii=False, separators=(",", ":"))


def encode_state(kind: str, request: AsyncRequest) -> str:
    """Return the JSON of a request's state. A result that makes it too long is left out."""
    state = {
        "type": kind,
        "request_id": request.request_id,
        "action": request.action,
        "status": str(request.status),
        "percentage": round(100 * request.progress, 2),
        "message": request.progress_message or "",
    }
    if request.error is not None:
        state["error"] = {"code": request.error_code or "", "message": request.error}
    text = encode(state if request.result is None else state | {"result": request.result})
    if len(text.encode()) <= MAX_BYTES:
        return text
    return encode(state | {"result": None, "result_omitted": True})


def _fault(fault: Any) -> str:
    # Its first part is the type of the message, which the client knows.
    place = ".".join(map(str, fault["loc"][1:]))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])
