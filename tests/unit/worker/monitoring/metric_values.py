"""Metrics of a worker with two handlers, and their values."""

from __future__ import annotations

import pytest

from streamer_worker.monitoring.metrics import Metrics
from unit.worker.exposed import two_handlers


@pytest.fixture
def metrics() -> Metrics:
    return two_handlers()


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"streamer_worker_{name}", labels)
