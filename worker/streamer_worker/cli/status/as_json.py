"""Converts a snapshot and its findings to the JSON that docs/operations.md documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamer_store import Pause
from streamer_store.times import format_time
from streamer_worker.cli.status.finding import Finding, is_healthy
from streamer_worker.cli.status.snapshot import RATE_WINDOW, Depth, Sample, Snapshot, Worker
from streamer_worker.cli.status.view import SHOWN, is_cut


def json_value(snapshot: Snapshot, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the documented JSON of a screen."""
    return {
        "ok": is_healthy(findings),
        "time": format_time(snapshot.now),
        "target": {
            "endpoint": snapshot.target.endpoint,
            "region": snapshot.target.region,
            "prefix": snapshot.target.tables.prefix,
            "tables": snapshot.target.tables.as_dict(),
        },
        "findings": [
            {
                "level": finding.level,
                "code": finding.code,
                "text": finding.text,
                "todo": finding.todo,
            }
            for finding in findings
        ],
        "workers": None if snapshot.workers is None else _workers_json(snapshot.workers),
        "workers_more": snapshot.workers_more,
        "pauses": None
        if snapshot.pauses is None
        else [_pause_json(each) for each in snapshot.paused],
        "requests": {
            status.value: _depth_json(snapshot.depths.get(status), snapshot) for status in SHOWN
        },
        "outcomes": {
            "completed": _rate_json(snapshot.completed, snapshot),
            "failed": _rate_json(snapshot.failed, snapshot),
        },
        "failures": None
        if snapshot.failed is None
        else [
            {
                "action": failure.action,
                "code": failure.code or None,
                "count": failure.count,
                "example": failure.example,
            }
            for failure in snapshot.recent_failures()
        ],
        "failures_more": is_cut(snapshot),
        "clock_offset": snapshot.clock_offset,
        "read_units": snapshot.read_units,
        "seconds": round(snapshot.seconds, 3),
    }


def _workers_json(workers: Sequence[Worker]) -> list[dict[str, Any]]:
    return [
        {
            "worker_id": worker.row.worker_id,
            "host": worker.row.host,
            "pid": worker.row.pid,
            "release": worker.row.release,
            "beating": worker.beating,
            "draining": worker.drains,
            "silence": worker.silence,
            "in_flight": worker.row.in_flight,
            "concurrency": worker.row.concurrency,
            "actions": sorted(worker.row.actions),
        }
        for worker in workers
    ]


def _pause_json(pause: Pause) -> dict[str, Any]:
    return {
        "kind": pause.kind.value,
        "name": pause.name,
        "by": pause.by,
        "at": format_time(pause.at),
        "until": None if pause.until is None else format_time(pause.until),
        "reason": pause.reason,
    }


def _depth_json(depth: Depth | None, snapshot: Snapshot) -> dict[str, Any] | None:
    if depth is None:
        return None
    age = None if depth.oldest is None else (snapshot.now - depth.oldest).total_seconds()
    return {
        "count": depth.count,
        "more": depth.more,
        "oldest_age": age,
        "later": depth.later,
        "later_more": depth.later_more,
    }


def _rate_json(sample: Sample | None, snapshot: Snapshot) -> dict[str, float] | None:
    if sample is None:
        return None
    return {
        "per_minute": round(sample.per_minute(snapshot.now), 2),
        "over_seconds": round(sample.reach(snapshot.now, RATE_WINDOW), 1),
    }
