"""Calls to DynamoDB with a time limit, checked answers, and the store's own errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
from botocore import xform_name

from streamer_store.dynamo.answers import problem_with_answer
from streamer_store.dynamo.calls import CallEnded, Observe, TryFailed
from streamer_store.dynamo.faults import translate_errors
from streamer_store.errors import StoreUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


class CheckedClient:
    """Calls DynamoDB and checks the answers.

    - `timeout`: seconds for a whole call: credentials, all attempts, and the pauses between them.
    - `require_open`: called before each call. Raises if the client cannot be used here.
    - `observe`: called with a TryFailed and a CallEnded for a call that exceeds `timeout`, and
      with each TryFailed that `report_failure` makes.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        *,
        timeout: float = math.inf,
        require_open: Callable[[], object] = int,
        observe: Observe | None = None,
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._require_open = require_open
        self._observe = observe

    async def call(
        self, operation: str, *, table: str = "", key: str = "", **arguments: Any
    ) -> dict[str, Any]:
        """Call an operation with its arguments, and return its answer.

        The answer has all fields that the stores read. `table` and `key` are for errors only.
        Raises StoreUnavailable, also for an answer that is not from DynamoDB, ConditionFailed,
        ItemTooLarge, InvalidInput, AccessDenied or TableMissing.
        """
        self._require_open()
        method = getattr(self._client, xform_name(operation))
        with translate_errors(operation, table=table, key=key):
            with anyio.move_on_after(self._timeout) as limit:
                answer: dict[str, Any] = await method(**arguments)
            if limit.cancelled_caught:
                self._report_timeout(operation)
                raise TimeoutError(f"no answer within {self._timeout:g} s")
            problem = problem_with_answer(operation, arguments, answer)
        if problem is not None:
            raise StoreUnavailable(problem, operation=operation, table=table, key=key)
        return answer

    def report_failure(self, operation: str, code: str, *, throttled: bool) -> None:
        """Report a part of a call that failed, which the client does not see."""
        if self._observe is not None:
            self._observe(TryFailed(operation=operation, code=code, throttled=throttled))

    def _report_timeout(self, operation: str) -> None:
        self.report_failure(operation, "CallTimeout", throttled=False)
        if self._observe is not None:
            self._observe(CallEnded(operation=operation, seconds=self._timeout))
