"""What `tables create --full-projection` costs.

`pytest -s tests/costs/test_full_projection_cost.py` prints the figures of docs/operations.md.
"""

from __future__ import annotations

import pytest

from streamer_store import AsyncRequest, CallEnded, TableNames, TryFailed, open_stores
from streamer_store.dynamo import tables
from streamer_store.dynamo.connecting import open_checked_client
from support import unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]


async def _units(url: str, *, payload_bytes: int, full: bool) -> dict[str, float]:
    """Return the write units of a request's enqueue, claim, progress and outcome."""
    written: list[float] = []

    def record(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded) and event.operation in {"PutItem", "UpdateItem"}:
            written.append(sum(capacity.units for capacity in event.capacity))

    prefix = unique_prefix()
    async with open_checked_client(endpoint_url=url, region=None) as calls:
        await tables.create(calls, TableNames.from_prefix(prefix), full_projection=full)
    # DynamoDB Local reports no capacity for batches. A write costs the same in a batch.
    async with open_stores(
        endpoint_url=url, prefix=prefix, observe=record, batch_writes=False
    ) as stores:
        await stores.requests.enqueue(
            AsyncRequest(action="a", connection_id="c", payload={"text": "x" * payload_bytes})
        )
        (claim,) = await stores.requests.dequeue(1)
        await stores.requests.update_progress(claim, 0.5, "half")
        await stores.requests.complete(claim, {"n": 1})
    return dict(zip(("enqueue", "claim", "progress", "outcome"), written, strict=True))


@pytest.mark.parametrize(
    ("payload_bytes", "slim", "full"),
    [
        (300, [3, 3, 1, 3], [3, 4, 3, 4]),
        (9_500, [12, 12, 10, 12], [30, 40, 30, 40]),
    ],
)
async def test_indexes_with_all_attributes_cost_as_documented(
    payload_bytes: int, slim: list[int], full: list[int], local_url: str
) -> None:
    """Each write of a request also writes to both indexes, and each KB counts in all three."""
    found = {
        kind: await _units(local_url, payload_bytes=payload_bytes, full=kind == "full")
        for kind in ("slim", "full")
    }
    print(f"\n{payload_bytes} bytes: {found}")  # noqa: T201
    assert list(found["slim"].values()) == slim
    assert list(found["full"].values()) == full
