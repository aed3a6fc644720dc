"""The write units that DynamoDB charges for a connection.

`pytest -s tests/costs/test_connection_cost.py` prints the figures of docs/connections.md.
"""

from __future__ import annotations

import pytest

from streamer_store import CallEnded, TryFailed, open_stores
from support import START, connection, unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]


async def test_a_connection_costs_as_documented(local_url: str) -> None:
    """Each write of a connection is written into its two indexes, too. What a transaction costs, as
    that of `disconnect`, DynamoDB Local does not count correctly.
    """
    units: list[float] = []
    costs: dict[str, float] = {}

    def record(event: CallEnded | TryFailed) -> None:
        if isinstance(event, CallEnded) and event.operation not in {"Query", "GetItem", "Scan"}:
            units.append(sum(capacity.units for capacity in event.capacity))

    def note(name: str) -> None:
        costs[name] = sum(units)
        units.clear()

    prefix = unique_prefix()
    async with open_stores(endpoint_url=local_url, prefix=prefix, observe=record) as stores:
        await stores.create_tables()
        units.clear()
        await stores.connections.save(connection("c1", connected_at=START))
        note("connect")
        await stores.connections.update_last_ping("c1")
        note("ping")
        await stores.subscriptions.subscribe("c1", "r1")
        note("subscribe")
    for name, cost in costs.items():
        print(f"{name}: {cost:g}")  # noqa: T201
    assert costs == {"connect": 3, "ping": 3, "subscribe": 3}
