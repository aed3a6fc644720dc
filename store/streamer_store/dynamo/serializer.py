"""Serialises the statements of a batch as they are.

botocore walks each parameter through its model, which takes 15 microseconds for a statement, and 4
without. In the JSON of a call, an attribute value has the form that the stores use, except for
binary values, which are base64 text.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_OPERATION: Final = "dynamodb.BatchExecuteStatement"
_ARGUMENTS: Final = "streamer_arguments"
_encode: Final = json.JSONEncoder(default=lambda blob: base64.b64encode(blob).decode()).encode


def serialize_statements_directly(client: DynamoDBClient) -> None:
    """Make the client serialise BatchExecuteStatement without its model.

    Not for a client that validates its arguments: botocore gets none to serialise.
    """
    events = client.meta.events
    events.register_last(f"before-parameter-build.{_OPERATION}", _keep_arguments)
    events.register_last(f"before-call.{_OPERATION}", _set_body)


def _keep_arguments(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context[_ARGUMENTS] = dict(params)
    params.clear()


def _set_body(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params["body"] = _encode(context.pop(_ARGUMENTS)).encode()
