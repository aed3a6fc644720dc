"""Which workers are alive, by successive reads of their rows (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from streamer_store import WorkerRow
from streamer_worker.cli.status.snapshot import Worker

# A worker whose last heartbeat is older than this is dead, however wrong its clock may be. AWS
# refuses calls from a clock that is 15 minutes off.
_SURELY_DEAD: Final = 900.0


@dataclass(slots=True)
class _Seen:
    beat: int
    first: float
    """When the row was first read, on our steady clock."""
    changed: float = -math.inf
    """When its Beat was last seen to have changed."""


class Liveness:
    """Compares each read of the rows with those before it.

    A worker is alive in these cases:

    1. Its Beat has changed within a lease, on our own steady clock, as workers judge each other.
    2. Its row has been watched for less than a lease, and SeenAt is less than a lease from now.
       SeenAt is by the worker's clock, which may be wrong.
    """

    def __init__(self, *, lease: float) -> None:
        self._lease = lease
        self._seen: dict[str, _Seen] = {}

    def observe(self, rows: Iterable[WorkerRow], *, now: datetime, steady: float) -> list[Worker]:
        """Return the workers, oldest first. `now` is DynamoDB's time, `steady` our clock."""
        rows = sorted(rows, key=lambda row: (row.started_at, row.worker_id))
        self._seen = {row.worker_id: self._follow(row, steady) for row in rows}
        return [self._judge(row, now, steady) for row in rows]

    def _follow(self, row: WorkerRow, steady: float) -> _Seen:
        seen = self._seen.get(row.worker_id)
        if seen is None:
            return _Seen(row.beat, steady)
        return seen if seen.beat == row.beat else replace(seen, beat=row.beat, changed=steady)

    def _judge(self, row: WorkerRow, now: datetime, steady: float) -> Worker:
        seen = self._seen[row.worker_id]
        silence = None if row.seen_at is None else (now - row.seen_at).total_seconds()
        beating = steady - seen.changed < self._lease
        if not beating and steady - seen.first < self._lease:
            beating = silence is not None and abs(silence) < self._lease
        return Worker(row=row, beating=beating, silence=silence)


def is_doubtful(worker: Worker) -> bool:
    """Return whether another read could show that a worker lives that seems dead.

    Its clock may be wrong. Then its Beat changes although SeenAt is old, or in the future.
    """
    return not worker.beating and (worker.silence is None or worker.silence < _SURELY_DEAD)
