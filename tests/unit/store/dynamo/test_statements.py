"""What the answers to single statements mean. DynamoDB Local never throttles or denies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from streamer_store import StoreUnavailable, TableNames
from streamer_store.conditions import Absent, OneOf
from streamer_store.dynamo import statements
from streamer_store.dynamo.calls import TryFailed
from streamer_store.dynamo.engine import DynamoEngine
from streamer_store.engine import Put, Refusal, Update
from streamer_store.schema import REQUESTS

pytestmark = pytest.mark.anyio
UPDATE: Final = Update(
    table=REQUESTS,
    key="r1",
    sets={"Version": {"S": "v1"}},
    conditions=(OneOf("Version", ({"S": "v0"},)),),
)
ITEM: Final = {"RequestID": {"S": "r1"}, "Version": {"S": "v1"}}
PUT: Final = Put(table=REQUESTS, item=ITEM, conditions=(Absent("RequestID"),))


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("ConditionalCheckFailed", Refusal.CONDITION_FAILED),
        ("DuplicateItem", Refusal.CONDITION_FAILED),
        ("ThrottlingError", Refusal.THROTTLED),
        ("ProvisionedThroughputExceeded", Refusal.THROTTLED),
        ("RequestLimitExceeded", Refusal.THROTTLED),
        ("InternalServerError", Refusal.THROTTLED),
        ("TransactionConflict", Refusal.THROTTLED),
        ("AccessDenied", Refusal.DENIED),
        ("ValidationError", Refusal.INVALID),
        ("ItemCollectionSizeLimitExceeded", Refusal.INVALID),
        ("ResourceNotFound", Refusal.INVALID),
        ("SomethingNew", Refusal.INVALID),
    ],
)
def test_each_code_is_a_refusal(code: str, refusal: Refusal) -> None:
    """The codes of statements are not those of calls."""
    error = {"Error": {"Code": code, "Message": "injected"}}
    assert statements.outcome(UPDATE, error) is refusal


def test_a_write_that_returns_nothing_needs_no_item() -> None:
    """A put, and an update that is not returning, give an empty item."""
    assert statements.outcome(PUT, {"TableName": "t"}) == {}
    assert statements.outcome(UPDATE, {"TableName": "t", "Item": ITEM}) == ITEM


@pytest.mark.parametrize("item", [None, {}, {"RequestID": {"S": "r2"}}])
def test_an_answer_with_another_item_is_not_believed(item: Mapping[str, Any] | None) -> None:
    """A claim of another request's item would run that request twice."""
    with pytest.raises(StoreUnavailable, match="wrong Item"):
        statements.outcome(UPDATE, {"TableName": "t", "Item": item})


class _Client:
    """Answers every batch with `responses`."""

    def __init__(self, responses: object) -> None:
        self._responses = responses

    async def batch_execute_statement(self, **_: Any) -> Any:
        return {"Responses": self._responses}


async def _write(responses: object, observed: list[object]) -> list[Any]:
    engine = DynamoEngine(
        client=_Client(responses),  # type: ignore[arg-type]
        names=TableNames.from_prefix("t_"),
        rng=None,  # type: ignore[arg-type]
        observe=observed.append,
    )
    return await engine.write_many([UPDATE, PUT])


async def test_errors_of_statements_are_observed() -> None:
    """The client does not see them. A condition that does not hold is no failure."""
    observed: list[object] = []
    responses = [
        {"Error": {"Code": "ThrottlingError", "Message": "injected"}},
        {"Error": {"Code": "DuplicateItem", "Message": "injected"}},
    ]
    outcomes = await _write(responses, observed)
    assert outcomes == [Refusal.THROTTLED, Refusal.CONDITION_FAILED]
    assert observed == [
        TryFailed(operation="BatchExecuteStatement", code="ThrottlingError", throttled=True)
    ]
    observed.clear()
    await _write([{"Error": {"Code": "ValidationError"}}, {"Item": None}], observed)
    assert observed == [
        TryFailed(operation="BatchExecuteStatement", code="ValidationError", throttled=False)
    ]


@pytest.mark.parametrize(
    "responses",
    [
        None,
        [],
        [{"Item": ITEM}],
        [{"Item": ITEM}, {}, {}],
        [{"Item": ITEM}, None],
        [{"Item": {"RequestID": "r1"}}, {}],
        [{"Item": ITEM}, {"Error": {"Message": "no code"}}],
        [{"Item": ITEM}, {"Error": "ConditionalCheckFailed"}],
    ],
)
async def test_an_answer_that_does_not_fit_is_not_believed(responses: object) -> None:
    """Each statement has one response, with an item or a code."""
    with pytest.raises(StoreUnavailable, match="Responses"):
        await _write(responses, [])
