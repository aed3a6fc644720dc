"""Definitions of schedules for tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from streamer_worker.schedules.definition import Definition
from streamer_worker.schedules.expression import CronExpression


def definition(cron: str = "* * * * *", name: str = "nightly", **options: Any) -> Definition:
    """Return a definition with an hour of catch_up, unless the options say otherwise."""
    defaults: dict[str, Any] = {
        "action": "echo",
        "payload": {"n": 1},
        "catch_up": timedelta(hours=1),
        "missed": "last",
        "priority": None,
        "max_retries": None,
    }
    return Definition(name=name, expression=CronExpression(cron, "UTC"), **defaults | options)
