"""Observe the calls of a client: their duration, errors, and consumed capacity."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class Capacity:
    """The capacity units that a call consumed on a table, or on one of its indexes.

    `table` is the full name. `index` is empty for the table itself.
    """

    table: str
    index: str
    units: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """A call has ended, with or without an error.

    `seconds` is the time of all its attempts. `capacity` is empty where the call or a condition
    failed: DynamoDB does not report it then. `date` is the server's time in whole seconds since
    1970, from the header of the answer. None: there was none.
    """

    operation: str
    seconds: float
    capacity: tuple[Capacity, ...] = ()
    date: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TryFailed:
    """One attempt of a call failed. The client may try again.

    `code` is DynamoDB's error code, or the name of the network's exception. `throttled`: more
    capacity would help. A condition that does not hold is not a failure.
    """

    operation: str
    code: str
    throttled: bool


Observe = Callable[[CallEnded | TryFailed], object]

_STARTED_AT: Final = "streamer_started_at"
# The operations that report their capacity.
_CHARGED: Final = (
    "BatchExecuteStatement",
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "Scan",
    "TransactWriteItems",
    "UpdateItem",
)
# Errors that more capacity would prevent (Developer Guide, "Error handling with DynamoDB").
_THROTTLES: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
    }
)
_CONDITION_FAILED: Final = "ConditionalCheckFailedException"


def observe_calls(client: DynamoDBClient, observe: Observe) -> None:
    """Call `observe` for every call and failed attempt of the client, in its event loop.

    `observe` must not block.
    """

    def request_capacity(params: dict[str, Any], **_: Any) -> None:
        params.setdefault("ReturnConsumedCapacity", "INDEXES")

    def start_timer(context: dict[str, Any], **_: Any) -> None:
        context[_STARTED_AT] = time.perf_counter()

    def report_call(context: dict[str, Any], event_name: str, **details: Any) -> None:
        ended_at = time.perf_counter()
        call = CallEnded(
            operation=_operation(event_name),
            seconds=ended_at - context.get(_STARTED_AT, ended_at),
            capacity=tuple(_capacity(details.get("parsed") or {})),
            date=_date(details.get("parsed") or {}),
        )
        observe(call)

    def report_failure(event_name: str, response: Any, caught_exception: Any, **_: Any) -> None:
        code = _error_code(response, caught_exception)
        if code and code != _CONDITION_FAILED:
            throttled = code in _THROTTLES
            observe(TryFailed(operation=_operation(event_name), code=code, throttled=throttled))

    events = client.meta.events
    for operation in _CHARGED:
        events.register(f"before-parameter-build.dynamodb.{operation}", request_capacity)
    events.register("before-call.dynamodb", start_timer)
    events.register("after-call.dynamodb", report_call)
    events.register("after-call-error.dynamodb", report_call)
    # Registered first: botocore's own handler answers this event, and ends its propagation.
    events.register_first("needs-retry.dynamodb", report_failure)


def _operation(event_name: str) -> str:
    return event_name.rpartition(".")[2]


def _error_code(response: Any, caught: BaseException | None) -> str | None:
    if caught is not None:
        return type(caught).__name__
    code = response[1].get("Error", {}).get("Code") if response is not None else None
    return None if code is None else str(code)


def _date(answer: dict[str, Any]) -> int | None:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return _seconds(headers.get("date", ""))


@lru_cache(maxsize=4)  # answers of the same second bear the same text
def _seconds(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, OverflowError):
        return None


def _capacity(answer: dict[str, Any]) -> Iterable[Capacity]:
    """Yield the capacity that an answer reports. Malformed parts are left out."""
    consumed = answer.get("ConsumedCapacity") or ()
    for entry in [consumed] if isinstance(consumed, dict) else consumed:
        table = entry.get("TableName")
        parts = {"": entry.get("Table")} if "Table" in entry else {}
        for field in ("LocalSecondaryIndexes", "GlobalSecondaryIndexes"):
            parts |= entry.get(field) or {}
        total = entry.get("CapacityUnits")
        total = float(total) if parts and isinstance(total, int | float) else 0.0
        if not parts:
            parts = {"": entry}
        for index, part in parts.items():
            units = (part or {}).get("CapacityUnits")
            if units and isinstance(table, str) and isinstance(units, int | float):
                yield Capacity(table, index, float(units))
                total -= units
        # The statements of a batch that failed are charged in the total only.
        if total > 0 and isinstance(table, str):
            yield Capacity(table, "", total)
