"""The loops of a worker that has to do with schedules."""

from __future__ import annotations

from collections.abc import Iterator

from streamer_store import ScheduleStore, WorkerRow
from streamer_worker.fleet.membership import Membership
from streamer_worker.runtime import Runtime
from streamer_worker.schedules.clock_skew import ClockSkew
from streamer_worker.schedules.definition import Definitions
from streamer_worker.schedules.ended import EndedSchedules
from streamer_worker.schedules.ticker import Ticker


def schedule_loops(
    *,
    definitions: Definitions,
    row: WorkerRow,
    schedules: ScheduleStore,
    membership: Membership,
    clock_skew: ClockSkew,
    lease: float,
    runtime: Runtime,
) -> Iterator[tuple[str, Ticker | EndedSchedules]]:
    """Yield the name and the service of each loop. A worker without schedules makes no ticks.

    `row`: the worker's own row. `lease`: in seconds.
    """
    if definitions:
        yield (
            "schedules",
            Ticker(
                definitions=definitions,
                started=row.started_at,
                schedules=schedules,
                membership=membership,
                clock_skew=clock_skew,
                lease=lease,
                runtime=runtime,
            ),
        )
    yield (
        "ended_schedules",
        EndedSchedules(
            schedules=schedules, membership=membership, clock_skew=clock_skew, runtime=runtime
        ),
    )
