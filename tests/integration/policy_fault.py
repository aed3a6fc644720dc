"""A fault of the proxy that enforces a shipped policy, and records all calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from integration.proxy import Forward, answering, operation_of
from policy import POLICY, AwsCall, allowed, calls_of

_DENY: Final = answering(400, "AccessDeniedException")
BATCHES: Final = frozenset({"BatchExecuteStatement"})
WRITES: Final = BATCHES | {"PutItem", "UpdateItem", "TransactWriteItems"}


class PolicyFault:
    """Refuses the calls that the policy denies. `seen` has all calls.

    The operations in `twice` are sent twice, as after a lost answer. Programs then read the items
    on which conditions failed.
    """

    def __init__(
        self,
        prefix: str,
        policy: Mapping[str, Any] = POLICY,
        *,
        twice: frozenset[str] = BATCHES,
    ) -> None:
        self._prefix = prefix
        self._twice = twice
        self.allowed = allowed(policy)
        self.seen: set[AwsCall] = set()

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        operation = operation_of(request)
        calls = set(calls_of(operation, json.loads(await request.read()), self._prefix))
        self.seen |= calls
        if not calls <= self.allowed:
            return await _DENY(request, forward)
        if operation in self._twice:
            await forward()
        return await forward()
