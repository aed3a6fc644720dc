"""What the calls of a client cost: their time, their errors, and the capacity they consumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class Capacity:
    """Units that DynamoDB charged on a table, or on one of its indexes (else empty)."""

    table: str
    index: str
    units: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """A call was answered, or given up: all its tries, in seconds. Where it failed, or a
    condition did, DynamoDB does not say what it charged.
    """

    operation: str
    seconds: float
    capacity: tuple[Capacity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TryFailed:
    """One try of a call failed; the client may try again. `code` is DynamoDB's, or the name of
    the exception that the network raised. A condition that was not met is no failure.
    """

    operation: str
    code: str
    throttled: bool


Observe = Callable[[CallEnded | TryFailed], object]

_BEGAN: Final = "streamer_began"
_CHARGED: Final = (
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "Scan",
    "UpdateItem",
)
# Among DynamoDB's errors, those that more capacity would mend (Developer Guide, "Error handling").
_THROTTLES: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
    }
)
_NO_FAILURE: Final = "ConditionalCheckFailedException"


def observe_calls(client: DynamoDBClient, observe: Observe) -> None:
    """Have every call of the client told to `observe`, on the client's own loop."""

    def ask(params: dict[str, Any], **_: Any) -> None:
        params.setdefault("ReturnConsumedCapacity", "INDEXES")

    def begin(context: dict[str, Any], **_: Any) -> None:
        context[_BEGAN] = time.perf_counter()

    def end(context: dict[str, Any], event_name: str, **given: Any) -> None:
        told = CallEnded(
            operation=_operation(event_name),
            seconds=time.perf_counter() - context.get(_BEGAN, time.perf_counter()),
            capacity=tuple(_capacity(given.get("parsed") or {})),
        )
        observe(told)

    def judge(event_name: str, response: Any, caught_exception: Any, **_: Any) -> None:
        code = _code(response, caught_exception)
        if code and code != _NO_FAILURE:
            throttled = code in _THROTTLES
            observe(TryFailed(operation=_operation(event_name), code=code, throttled=throttled))

    events = client.meta.events
    for operation in _CHARGED:
        events.register(f"before-parameter-build.dynamodb.{operation}", ask)
    events.register("before-call.dynamodb", begin)
    events.register("after-call.dynamodb", end)
    events.register("after-call-error.dynamodb", end)
    # First of all: the client's own answer to this event ends the round of those who are asked.
    events.register_first("needs-retry.dynamodb", judge)


def _operation(event_name: str) -> str:
    return event_name.rpartition(".")[2]


def _code(response: Any, caught: BaseException | None) -> str | None:
    if caught is not None:
        return type(caught).__name__
    code = response[1].get("Error", {}).get("Code") if response is not None else None
    return None if code is None else str(code)


def _capacity(answer: dict[str, Any]) -> Iterable[Capacity]:
    """Yield what the answer says was charged. A part that does not read is left out."""
    charged = answer.get("ConsumedCapacity") or ()
    for each in [charged] if isinstance(charged, dict) else charged:
        name = each.get("TableName")
        parts = {"": each.get("Table")} if "Table" in each else {}
        for kind in ("LocalSecondaryIndexes", "GlobalSecondaryIndexes"):
            parts |= each.get(kind) or {}
        if not parts:
            parts = {"": each}
        for index, part in parts.items():
            units = (part or {}).get("CapacityUnits")
            if units and isinstance(name, str) and isinstance(units, int | float):
                yield Capacity(name, index, float(units))
