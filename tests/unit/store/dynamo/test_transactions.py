"""Cancelled transactions: which are sent again, and which error the others raise.

DynamoDB Local raises conflicts too, but not when a test wants one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any, cast

import anyio
import pytest
from botocore.exceptions import ClientError
from trio.testing import MockClock

from streamer_store import (
    AccessDenied,
    InvalidInput,
    ItemTooLarge,
    StoreError,
    StoreUnavailable,
    TableNames,
    TryFailed,
)
from streamer_store.conditions import Absent
from streamer_store.dynamo.engine import DynamoEngine
from streamer_store.engine import Put, TransactionFailed
from streamer_store.schema import WORKERS

pytestmark = pytest.mark.anyio
PARTS = [
    Put(table=WORKERS, item={"WorkerID": {"S": name}}, conditions=(Absent("WorkerID"),))
    for name in ("w1", "w2")
]
NONE: dict[str, Any] = {"Code": "None"}
CONFLICT: dict[str, Any] = {"Code": "TransactionConflict", "Message": "ongoing"}
FAILED: dict[str, Any] = {"Code": "ConditionalCheckFailed"}
# The longest pause before each attempt after the first, in seconds.
BOUNDS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


class Client:
    """A client whose transactions are cancelled for these reasons, one list for each attempt."""

    def __init__(self, *reasons: Any) -> None:
        self._reasons = list(reasons)
        self.calls: list[dict[str, Any]] = []
        self.times: list[float] = []

    async def transact_write_items(self, **arguments: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        self.calls.append(arguments)
        self.times.append(anyio.current_time())
        if not self._reasons:
            return {}
        answer = {
            "Error": {"Code": "TransactionCanceledException", "Message": "cancelled"},
            "CancellationReasons": self._reasons.pop(0),
        }
        raise ClientError(cast("Any", answer), "TransactWriteItems")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


async def transact(client: Client, observed: list[Any] | None = None) -> None:
    engine = DynamoEngine(
        client=cast("Any", client),
        names=TableNames.from_prefix("t_"),
        rng=random.Random(7),
        observe=None if observed is None else observed.append,
    )
    await engine.transact(PARTS)


async def test_a_conflict_is_sent_again() -> None:
    """It ends when the other write ends. Each attempt is reported, and only throttles as such."""
    throttled = [{"Code": "ThrottlingError"}, NONE]
    client, observed = Client([NONE, CONFLICT], throttled), list[Any]()
    await transact(client, observed)
    assert len(client.calls) == 3
    assert all(call == client.calls[0] for call in client.calls)
    assert [failed for failed in observed if isinstance(failed, TryFailed)] == [
        TryFailed(operation="TransactWriteItems", code="TransactionConflict", throttled=False),
        TryFailed(operation="TransactWriteItems", code="ThrottlingError", throttled=True),
    ]


async def test_conflicts_that_do_not_end_are_an_outage() -> None:
    """After ten attempts, with growing pauses."""
    client = Client(*[[CONFLICT, NONE]] * 10)
    with pytest.raises(StoreUnavailable, match=r"cancelled 10 times: TransactionConflict"):
        await transact(client)
    pauses = [later - before for before, later in itertools.pairwise(client.times)]
    assert len(pauses) == len(BOUNDS)
    assert all(pause <= bound for pause, bound in zip(pauses, BOUNDS, strict=True))
    assert sum(pauses) > sum(BOUNDS) / 4


async def test_a_failed_condition_beside_a_conflict_is_final() -> None:
    """Another attempt would meet it again. The old item comes with it, if there is one."""
    old = {"WorkerID": {"S": "w2"}}
    client = Client([CONFLICT, FAILED | {"Item": old}])
    with pytest.raises(TransactionFailed) as raised:
        await transact(client)
    assert raised.value.old == {1: old}
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    ("reason", "error", "text"),
    [
        (
            {
                "Code": "ValidationError",
                "Message": "Item size has exceeded the maximum allowed size",
            },
            ItemTooLarge,
            "maximum allowed size",
        ),
        ({"Code": "ItemCollectionSizeLimitExceeded"}, ItemTooLarge, "item"),
        ({"Code": "ValidationError", "Message": "bad type"}, InvalidInput, "bad type"),
        ({"Code": "AccessDeniedException", "Message": "no"}, AccessDenied, "no"),
        ({"Code": "Unheard"}, InvalidInput, "Unheard"),
    ],
)
async def test_other_reasons_are_errors_of_their_part(
    reason: dict[str, Any], error: type[StoreError], text: str
) -> None:
    """The error has the table and the key of the part."""
    with pytest.raises(error, match=text) as raised:
        await transact(Client([NONE, reason]))
    assert (raised.value.table, raised.value.key) == ("t_workers", "w2")


@pytest.mark.parametrize(
    "reasons",
    [None, [], [NONE], [NONE, NONE], [NONE, {}], [NONE, FAILED | {"Item": {"WorkerID": "w"}}], 5],
)
async def test_reasons_that_say_nothing_are_an_outage(reasons: Sequence[Any] | None) -> None:
    """Something other than DynamoDB may have answered, so nothing is known about the write."""
    with pytest.raises(StoreUnavailable):
        await transact(Client(reasons))
