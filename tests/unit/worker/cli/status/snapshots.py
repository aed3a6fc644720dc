"""Snapshots for the tests of `status`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from streamer_store import Target, WorkerRow
from streamer_store.table_names import DEFAULT_NAMES
from streamer_worker.cli.status.snapshot import (
    ActionCount,
    Depth,
    EndedRequest,
    Sample,
    Snapshot,
    Worker,
)
from support import START

NOW = START + timedelta(days=1)
TARGET = Target(
    endpoint="http://127.0.0.1:8000",
    endpoint_source="argument",
    region="eu-west-1",
    region_source="argument",
    prefix="streamer_",
    prefix_source="argument",
    tables=DEFAULT_NAMES,
    table_sources=dict.fromkeys(DEFAULT_NAMES.as_dict(), "argument"),
)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def worker(
    name: str = "w1", *, beating: bool = True, silence: float | None = 2.0, **fields: Any
) -> Worker:
    """Return a worker that handles the action `bill`, with one of four slots busy."""
    row: dict[str, Any] = {
        "worker_id": name,
        "started_at": START,
        "host": "host-a",
        "pid": 7,
        "release": "1.2.3",
        "actions": frozenset({"bill"}),
        "concurrency": 4,
        "in_flight": 1,
    }
    return Worker(row=WorkerRow(**(row | fields)), beating=beating, silence=silence)


def snapshot(*workers: Worker, **fields: Any) -> Snapshot:
    """Return a snapshot in which nothing is wrong but what `workers` and `fields` say."""
    defaults: dict[str, Any] = {
        "now": NOW,
        "target": TARGET,
        "lease": 16.0,
        "clock_offset": 0.1,
        "workers": workers or (worker(),),
    }
    return Snapshot(**(defaults | fields))


def depth(count: int = 1, *, age: float = 5.0, action: str = "bill", **fields: Any) -> Depth:
    """Return the depth of a status whose requests are all of one action."""
    found = ActionCount(count=count, oldest=ago(age))
    defaults: dict[str, Any] = {"count": count, "oldest": ago(age), "actions": {action: found}}
    return Depth(**(defaults | fields))


def ended(
    *ages: float, action: str = "bill", code: str = "", full: bool = False, **lost: float
) -> Sample:
    """Return a sample of requests that ended so many seconds ago.

    `lost`: the workers that each of them has lost, and how many seconds ago.
    """
    return Sample(
        requests=[
            EndedRequest(
                request_id=f"{action}-{age:g}",
                action=action,
                code=code,
                at=ago(age),
                lost={name: ago(seconds) for name, seconds in lost.items()},
            )
            for age in ages
        ],
        full=full,
    )
