"""What the functions of examples/lambda cost: milliseconds of a warm call, and units of DynamoDB.

`pytest -s tests/costs/test_lambda_cost.py` prints the figures of examples/lambda/README.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest

from examples.lambda_function import Client, Function, imported
from streamer_store import AsyncRequest, CallEnded, TryFailed, open_stores_sync
from support import unique_prefix

pytestmark = pytest.mark.local

CALLS = 200
WARM_UP = 100
ROUNDS = 5
PAYLOAD = {"text": "x" * 280}


@pytest.fixture
def prefix(local_url: str) -> str:
    prefix = unique_prefix()
    with open_stores_sync(endpoint_url=local_url, prefix=prefix) as stores:
        stores.create_tables()
    return prefix


@pytest.fixture
def function(local_url: str, prefix: str) -> Iterator[Function]:
    with imported(local_url, prefix) as function:
        yield function


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median of warm calls, one after another."""
    times = []
    for _ in range(WARM_UP + CALLS):
        before = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - before))
    return median(times[WARM_UP:])


def test_the_function_adds_little_to_an_enqueue(function: Function) -> None:
    """Reading the event and writing the answer take a fraction of the call to DynamoDB."""
    client = function.client()
    client.connect()
    request = AsyncRequest(action="report", payload=PAYLOAD, connection_id=client.connection_id)
    pairs = [
        (
            milliseconds(lambda: client.send(action="report", payload=PAYLOAD)),
            milliseconds(lambda: function.stores.requests.enqueue(request)),
        )
        for _ in range(ROUNDS)
    ]
    handled = [pair[0] for pair in pairs]
    ratio = median(through / alone for through, alone in pairs)
    print(  # noqa: T201
        f"\nenqueue through the handler: {median(handled):.2f} ms"
        f" ({min(handled):.2f} to {max(handled):.2f}), {ratio:.2f} times that of the stores"
    )
    assert ratio < 1.5


def test_a_connection_costs_as_documented(
    function: Function, local_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write of a connection or a subscription also writes to two indexes."""
    units: dict[str, float] = {}

    def record(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded):
            used = sum(capacity.units for capacity in event.capacity)
            units[event.operation] = units.get(event.operation, 0) + used

    def cost_of(call: Callable[[], tuple[int, object]]) -> dict[str, float]:
        units.clear()
        assert call()[0] == 200
        return {operation: used for operation, used in units.items() if used}

    with open_stores_sync(endpoint_url=local_url, prefix=prefix, observe=record) as stores:
        monkeypatch.setattr(function.module, "stores", stores)
        client: Client = function.client()
        request = {"action": "report", "request_id": "r1"}
        costs = {
            "connect": cost_of(lambda: client.call(client.event("$connect"))),
            "ping": cost_of(lambda: client.send(type="ping")),
            "request": cost_of(lambda: client.send(**request)),
            "read": cost_of(lambda: client.send(type="read", request_id="r1")),
            "subscribe": cost_of(lambda: client.send(type="subscribe", request_id="r1")),
            "unsubscribe": cost_of(lambda: client.send(type="unsubscribe", request_id="r1")),
            "disconnect": cost_of(lambda: client.call(client.event("$disconnect"))),
        }
    assert costs == {
        "connect": {"PutItem": 3},
        "ping": {"UpdateItem": 3},
        "request": {"PutItem": 3},
        "read": {"GetItem": 1},
        "subscribe": {"GetItem": 2, "UpdateItem": 3},
        "unsubscribe": {"DeleteItem": 3},
        "disconnect": {"DeleteItem": 3},  # and a Query, which DynamoDB Local does not report
    }
