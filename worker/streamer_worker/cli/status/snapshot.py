"""What one screen of `status` is made of, as read from the tables (pure).

None stands for what could not be read. `unreadable` then says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from streamer_store import Difference, Pause, RequestStatus, Target, WorkerRow
from streamer_store.transitions import WAITING

RATE_WINDOW: Final = 300.0
"""Seconds over which the rate of outcomes is measured."""
RATIO_WINDOW: Final = 900.0
"""Seconds over which the ratio of failures is measured, as by the alert StreamerFailureRate."""
FAILURE_WINDOW: Final = 3600.0
"""Seconds for which failures and lost workers are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker's row, and whether the worker is alive."""

    row: WorkerRow
    beating: bool
    """Whether its heartbeats arrive."""
    silence: float | None = None
    """Seconds since its last heartbeat, by DynamoDB's clock. None: SeenAt is not known."""

    @property
    def drains(self) -> bool:
        return self.row.draining or self.row.drain

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which its clock differs: above 0 it is ahead. None: not known.

        A heartbeat on its way counts as a clock that is a little behind.
        """
        return -self.silence if self.beating and self.silence is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionCount:
    """The requests of one action that wait."""

    count: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """The requests of one status. RETRYING and SCHEDULED: those that are due.

    They are counted up to a limit. `more` says that there are more than `count`.
    """

    count: int = 0
    more: bool = False
    oldest: datetime | None = None
    """Since when the oldest waits: its creation, or the time at which it became due."""
    later: int = 0
    """How many of this status are due later. They are not in `count`."""
    later_more: bool = False
    actions: Mapping[str, ActionCount] = field(default_factory=dict)
    arrived: int | None = 0
    """How many arrived within the last minute. None: not known, as not all were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRequest:
    """A request that ended, or that waits after an attempt that failed."""

    request_id: str
    action: str
    code: str
    """Its ErrorCode. Empty: none."""
    at: datetime | None
    """When its last attempt ended. None: not known."""
    lost: Mapping[str, datetime] = field(default_factory=dict)
    """The workers that were lost while they ran it, and when that was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The requests of a status that were created last, within a day, up to a limit."""

    requests: Sequence[EndedRequest] = ()
    full: bool = False
    """Whether there are more requests than were read."""

    def reach(self, now: datetime, window: float) -> float:
        """Return over how many seconds, up to `window`, the sample is taken as complete.

        That is the age of the earliest end if the sample is full. Otherwise it is the window.
        """
        ends = [each.at for each in self.requests if each.at is not None]
        if not self.full or not ends:
            return window
        return min(window, max(1.0, (now - min(ends)).total_seconds()))

    def per_minute(self, now: datetime, window: float = RATE_WINDOW) -> float:
        """Return how many ended per minute, over `window` or what the sample covers of it."""
        seconds = self.reach(now, window)
        ended = sum(
            1
            for each in self.requests
            if each.at is not None and (now - each.at).total_seconds() <= seconds
        )
        return ended / seconds * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """The requests of one action that failed with one code."""

    action: str
    code: str
    count: int
    example: str
    """The id of the latest of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that was read for one screen."""

    now: datetime
    """When it was read, by DynamoDB's clock."""
    target: Target
    lease: float
    """Seconds without a heartbeat after which a worker is declared dead."""
    unknown_action_timeout: float = 1800.0
    """Seconds after which a request fails if no live worker handles its action."""
    clock_offset: float | None = None
    """Seconds by which this machine's clock is ahead of DynamoDB's. None: not known."""
    workers: Sequence[Worker] | None = ()
    workers_more: bool = False
    """Whether the table has more rows than were read."""
    pauses: Sequence[Pause] | None = ()
    """What is paused, also what is over by now."""
    depths: Mapping[RequestStatus, Depth] = field(default_factory=dict)
    """PENDING, RETRYING, SCHEDULED and PROCESSING. One that could not be read is missing."""
    completed: Sample | None = Sample()
    failed: Sample | None = Sample()
    retrying: Sample | None = Sample()
    orphans: Sequence[str] = ()
    """PROCESSING requests of workers that do not live."""
    orphans_more: bool = False
    differences: Sequence[Difference] | None = ()
    unreadable: Sequence[Unreadable] = ()
    undecodable: Sequence[str] = ()
    """What cannot be decoded in workers' rows and requests, one text for each item."""
    read_units: float = 0.0
    seconds: float = 0.0
    """How long the reads took."""

    @property
    def live(self) -> list[Worker]:
        return [worker for worker in self.workers or () if worker.beating]

    @property
    def paused(self) -> list[Pause]:
        """The pauses in force."""
        return [pause for pause in self.pauses or () if not pause.is_over(self.now)]

    def is_paused(self, action: str) -> bool:
        """Return whether the whole action is paused."""
        return any(pause.covers(action, None) for pause in self.paused)

    @property
    def handled_actions(self) -> frozenset[str]:
        """The actions that a live worker handles."""
        return frozenset[str]().union(*(worker.row.actions for worker in self.live))

    @property
    def silent(self) -> list[Worker]:
        return [worker for worker in self.workers or () if not worker.beating]

    @property
    def waiting(self) -> int:
        """How many requests wait and may run, as far as they were counted."""
        return sum(self.depths[status].count for status in WAITING if status in self.depths)

    @property
    def waiting_more(self) -> bool:
        return any(self.depths[status].more for status in WAITING if status in self.depths)

    def waiting_actions(self) -> dict[str, ActionCount]:
        """Return the requests that may run by action, in the order of the names."""
        totals: dict[str, ActionCount] = {}
        for status in WAITING:
            for name, found in self.depths.get(status, Depth()).actions.items():
                total = totals.get(name, ActionCount(count=0, oldest=None))
                totals[name] = ActionCount(
                    count=total.count + found.count, oldest=earliest(total.oldest, found.oldest)
                )
        return dict(sorted(totals.items()))

    def lost_workers(self) -> dict[str, datetime]:
        """Return the workers that were lost in the last hour, and when that was found last."""
        lost: dict[str, datetime] = {}
        for sample in (self.completed, self.failed, self.retrying):
            for each in () if sample is None else sample.requests:
                for worker_id, at in each.lost.items():
                    if (self.now - at).total_seconds() <= FAILURE_WINDOW:
                        lost[worker_id] = max(at, lost.get(worker_id, at))
        return lost

    def recent_failures(self) -> list[Failures]:
        """Return the failures of the last hour by action and code, the most frequent first."""
        return grouped(within(self.failed, self.now, FAILURE_WINDOW))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A read that was refused."""

    what: str
    reason: str
    essential: bool
    """Whether the health cannot be judged without it."""
    missing: bool = False
    """Whether the table or the index does not exist."""


def earliest(*moments: datetime | None) -> datetime | None:
    """Return the earliest of the moments that are not None, or None."""
    return min((moment for moment in moments if moment is not None), default=None)


def within(sample: Sample | None, now: datetime, seconds: float) -> list[EndedRequest]:
    """Return the requests of the sample that ended in the last `seconds`."""
    return [
        each
        for each in (() if sample is None else sample.requests)
        if each.at is not None and (now - each.at).total_seconds() <= seconds
    ]


def grouped(requests: Iterable[EndedRequest]) -> list[Failures]:
    """Return the requests by action and code, the largest group first."""
    groups: dict[tuple[str, str], list[EndedRequest]] = {}
    for each in requests:
        groups.setdefault((each.action, each.code), []).append(each)
    failures = [
        Failures(
            action=action,
            code=code,
            count=len(members),
            example=max(members, key=lambda each: each.at.timestamp() if each.at else 0).request_id,
        )
        for (action, code), members in groups.items()
    ]
    return sorted(failures, key=lambda each: (-each.count, each.action, each.code))
