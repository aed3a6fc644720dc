"""The capacity units that a worker has consumed, from its metrics."""

from __future__ import annotations

import re
from collections import Counter

from processes import page

WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem")
_SAMPLE = re.compile(
    r'streamer_worker_dynamodb_consumed_capacity_units_total{index="(\w*)",operation="(\w+)",'
    r'table="\w+?_(\w+)"} (\S+)'
)


def consumed(url: str) -> Counter[tuple[str, str]]:
    """Return the units by table and operation, from the worker's metrics."""
    units_by_call: Counter[tuple[str, str]] = Counter()
    for _, operation, table, units in _SAMPLE.findall(page(url)):
        units_by_call[table, operation] += float(units)  # type: ignore[assignment]
    return units_by_call


def split(units_by_call: Counter[tuple[str, str]]) -> tuple[float, float]:
    """Return the read units and the write units."""
    written = sum(units for (_, call), units in units_by_call.items() if call in WRITES)
    return sum(units_by_call.values()) - written, written
