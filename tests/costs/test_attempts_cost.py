"""The write units that the list of failed attempts adds to a request.

`pytest -s tests/costs/test_attempts_cost.py` prints the figures of docs/operations.md.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from streamer_store import (
    AsyncRequest,
    CallEnded,
    Claim,
    RequestStatus,
    Stores,
    TryFailed,
    open_stores,
)
from support import unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]

WORKER = "20661126T224709Z-3f6c1234-5678"
SHORT = "could not connect to the server"


async def test_failed_attempts_cost_as_documented(local_url: str) -> None:
    """Each write costs a unit more for each KB that the list adds: at most 3.

    Without the list these requests cost 6, 30, 44 and 128 units.
    """
    charged: list[float] = []

    def record(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded) and event.operation == "UpdateItem":
            charged.append(sum(capacity.units for capacity in event.capacity))

    async with open_stores(
        endpoint_url=local_url, prefix=unique_prefix(), observe=record, batch_writes=False
    ) as stores:
        await stores.create_tables()
        costs = {}
        for name, error, attempts in (
            ("none that failed", SHORT, 0),
            ("4 with short texts", SHORT, 4),
            ("4 with long texts", "x" * 2000, 4),
            ("11 with long texts", "x" * 2000, 11),
        ):
            charged.clear()
            await _run(stores, name, error, attempts)
            costs[name] = charged.copy()
    for name, units in costs.items():
        print(f"\n{name}: {sum(units):g} = {' '.join(f'{each:g}' for each in units)}")  # noqa: T201
    assert [sum(units) for units in costs.values()] == [6, 33, 49, 169]
    assert max(costs["11 with long texts"]) == 6 + 3


async def _run(stores: Stores, request_id: str, error: str, attempts: int) -> None:
    """Run a small request that fails so often, or succeeds at once."""
    await stores.requests.enqueue(
        AsyncRequest(
            action="generate_report",
            request_id=request_id,
            connection_id="c1",
            tenant_id="t1",
            payload={"n": 1},
            max_retries=100,
        )
    )
    for number in range(1, attempts + 1):
        claim = await _claim(stores, request_id)
        failure: dict[str, Any] = {
            "error": error,
            "code": "PROCESSING_FAILED",
            "error_class": "OperationalError",
        }
        if number < attempts:
            await stores.requests.retry(claim, timedelta(), **failure)
        else:
            await stores.requests.fail(claim, **failure)
    if not attempts:
        await stores.requests.complete(await _claim(stores, request_id), {"rows": 1})


async def _claim(stores: Stores, request_id: str) -> Claim:
    for status in (RequestStatus.PENDING, RequestStatus.RETRYING):
        page = await stores.requests.entries(status, limit=10)
        for entry in page.candidates:
            if entry.request_id == request_id:
                return await stores.requests.claim(entry, worker_id=WORKER)
    raise AssertionError(f"{request_id} does not wait")
