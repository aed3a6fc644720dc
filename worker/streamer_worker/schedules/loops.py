"""The schedules of a worker, and the loops that it needs for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamer_store import ScheduleStore, WorkerRow
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.server_clock import ClockSkew
from streamer_worker.runtime import Runtime
from streamer_worker.schedules.definition import Definitions
from streamer_worker.schedules.ended import EndedSchedules
from streamer_worker.schedules.ticker import Ticker


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedules:
    """The schedules of a worker, for all of its incarnations. `lease`: in seconds.

    `is_paused`: returns whether the schedule of a name is paused.
    """

    definitions: Definitions
    store: ScheduleStore
    clock_skew: ClockSkew
    is_paused: Callable[[str], bool]
    lease: float
    runtime: Runtime

    @property
    def listings(self) -> frozenset[str]:
        """What the worker's row says about them."""
        return frozenset(one.listing for one in self.definitions.values())

    def loops(
        self, row: WorkerRow, membership: Membership
    ) -> Iterator[tuple[str, Ticker | EndedSchedules]]:
        """Yield the name and the service of each loop. Without schedules there are no ticks.

        `row`: that of the incarnation.
        """
        if self.definitions:
            ticker = Ticker(
                definitions=self.definitions,
                started=row.started_at,
                schedules=self.store,
                membership=membership,
                clock_skew=self.clock_skew,
                is_paused=self.is_paused,
                lease=self.lease,
                runtime=self.runtime,
            )
            yield "schedules", ticker
        ended = EndedSchedules(
            schedules=self.store,
            membership=membership,
            clock_skew=self.clock_skew,
            runtime=self.runtime,
        )
        yield "ended_schedules", ended
