"""The function of examples/lambda, called as API Gateway calls it."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from processes import ROOT
from streamer_store import SyncStores

FOLDER: Final = ROOT / "examples" / "lambda"
_MODULES: Final = ("app", "api_gateway")
_VARIABLES: Final = ("MANAGEMENT_ENDPOINT", "ALLOW_ANONYMOUS", "ACTIONS")
_numbers: Final = itertools.count(1)
_EVENT_TYPES: Final = {"$connect": "CONNECT", "$disconnect": "DISCONNECT"}


class Function:
    """The imported module, and the stores that it has opened."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.stores: SyncStores = module.stores

    def client(self, user: str | None = None, **authorizer: Any) -> Client:
        """Return a client of this user, by default a new one, with a connection of its own."""
        return Client(self, user or f"user-{next(_numbers)}", authorizer)

    def anonymous(self) -> Client:
        """Return a client behind a route `$connect` that has no authorizer."""
        return Client(self, "", {})


class Client:
    """One WebSocket connection, and the user that the authorizer named for it."""

    def __init__(self, function: Function, user: str, authorizer: dict[str, Any]) -> None:
        self._function = function
        self._authorizer = authorizer
        self.user = user
        self.connection_id = f"L0SM9cOFvHcCIhw{next(_numbers)}="

    def event(self, route: str, body: str | None = None, **context: Any) -> dict[str, Any]:
        """Return an event as API Gateway sends it with a Lambda proxy integration."""
        request_context = {
            "routeKey": route,
            "eventType": _EVENT_TYPES.get(route, "MESSAGE"),
            "messageDirection": "IN",
            "connectionId": self.connection_id,
            "connectedAt": 1764212400000,
            "requestTimeEpoch": 1764212400123,
            "requestId": "XfGLwFTktjMFsLg=",
            "extendedRequestId": "XfGLwFTktjMFsLg=",
            "requestTime": "27/Nov/2026:03:00:00 +0000",
            "apiId": "abc123",
            "domainName": "abc123.execute-api.eu-west-1.amazonaws.com",
            "stage": "prod",
            "identity": {"sourceIp": "203.0.113.9"},
        }
        if self.user:
            named = {"principalId": self.user, "integrationLatency": 12}
            request_context["authorizer"] = named | self._authorizer
        event = {"requestContext": request_context | context, "isBase64Encoded": False}
        return event if body is None else event | {"body": body}

    def call(self, event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the status and the document of the answer, which Lambda can send."""
        answer = self._function.module.handler(event, None)
        json.dumps(answer, ensure_ascii=False).encode()
        assert set(answer) == {"statusCode", "body"}
        return answer["statusCode"], json.loads(answer["body"])

    def connect(self, **context: Any) -> int:
        """Return the status with which `$connect` is answered."""
        return self.call(self.event("$connect", **context))[0]

    def send(self, **message: Any) -> tuple[int, dict[str, Any]]:
        """Send a message to the route of its `type`, as the API selects it."""
        route = message.get("type", "$default")
        known = route in self._function.module.ROUTES
        return self.call(self.event(route if known else "$default", json.dumps(message)))

    def send_text(self, text: str, route: str = "$default") -> tuple[int, dict[str, Any]]:
        """Send any text to a route."""
        return self.call(self.event(route, text))


@contextmanager
def imported(url: str, prefix: str, **variables: str) -> Iterator[Function]:
    """Import the function with these variables, as an environment of Lambda does at its start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for name in _VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("STREAMER_ENDPOINT_URL", url)
        patch.setenv("STREAMER_TABLE_PREFIX", prefix)
        for name, value in variables.items():
            patch.setenv(name, value)
        for name in _MODULES:
            sys.modules.pop(name, None)
        function = Function(importlib.import_module("app"))
        try:
            yield function
        finally:
            function.stores.close()
            for name in _MODULES:
                sys.modules.pop(name, None)
