"""The names that a worker's page has."""

from __future__ import annotations

from functools import cache

from streamer_worker.families import PREFIX
from streamer_worker.metrics import Metrics
from support import ManualClock
from unit.worker.test_metrics import BULK, EVERY_EVENT, REPORT


@cache
def exposed_names() -> frozenset[str]:
    """Return the name of every sample that there can be, of the worker's own metrics."""
    metrics = Metrics({"report": REPORT, "bulk": BULK}, clock=ManualClock())
    for event in EVERY_EVENT:
        metrics(event)
    samples = (each for family in metrics.registry.collect() for each in family.samples)
    return frozenset(each.name for each in samples if each.name.startswith(PREFIX))
