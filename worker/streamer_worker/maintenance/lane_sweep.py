"""Finds requests that wait for later and do not stand in their lane of DueIndex."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from streamer_store import Lane, RequestQueue
from streamer_store.transitions import DELAYED
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.lane_corrector import LaneCorrector
from streamer_worker.runtime import Runtime

_PAGE_SIZE: Final = 1000
# Seconds between two sweeps: an hour, or a minute while a worker lives that does not write lanes,
# and for an hour after its end: a paused worker may write without lanes after its row is gone.
_INTERVAL: Final = 3600.0
_INTERVAL_BESIDE_OLDER: Final = 60.0
_AFTER_OLDER: Final = 3600.0
# How soon a new leader, or an older worker that has started, is noticed, in seconds.
_CHECK_INTERVAL: Final = 5.0
# With many requests the hour becomes longer, so that sweeps cost 0.1 read units a second at most.
# Each request is read in two indexes, about 250 bytes each.
_SECONDS_EACH: Final = 0.6
_LONGEST_INTERVAL: Final = 86_400.0
# How many ids one sweep remembers. Requests beyond are read whole, to see where they stand.
_MAX_IDS: Final = 200_000
_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCounts:
    """How many requests wait for later, and how many stood in a wrong place."""

    waiting: int
    corrected: int


class LaneSweep:
    """Compares the RETRYING and SCHEDULED requests of StatusIndex with DueIndex.

    Pollers read DueIndex, so they do not see a request that an older release or the Go store made
    RETRYING without a lane. One worker finds them: the leader, or the oldest one that writes
    lanes while an older release leads.
    """

    def __init__(self, *, requests: RequestQueue, membership: Membership, runtime: Runtime) -> None:
        self._requests = requests
        self._corrector = LaneCorrector(requests=requests)
        self._membership = membership
        self._clock = runtime.clock
        self._swept_at = -math.inf
        self._interval = 0.0
        self._is_beside_older = False
        self._older_seen_at = -math.inf

    async def step(self) -> SweepCounts | None:
        """Sweep if it is time, and return the counts.

        Returns None if it is not time, another worker sweeps, or the table has no DueIndex.
        """
        view = self._membership.view
        now = self._clock.steady()
        self._note_older(view, now)
        if not _is_responsible(view):
            self._swept_at = -math.inf  # If this worker leads later, it sweeps at once.
            return None
        is_upgrade = now - self._older_seen_at < _AFTER_OLDER
        interval = _INTERVAL_BESIDE_OLDER if is_upgrade else self._interval
        if now - self._swept_at < interval:
            return None
        began = now
        counts = await self._sweep()
        if counts is not None:
            self._swept_at = began
            many = counts.waiting * _SECONDS_EACH
            self._interval = min(_LONGEST_INTERVAL, max(_INTERVAL, many))
        return counts

    def _note_older(self, view: FleetView, now: float) -> None:
        """Note whether an older worker lives. When the last one has ended, it is time to sweep."""
        was_beside_older = self._is_beside_older
        self._is_beside_older = not all(row.lanes for row in view.live)
        if self._is_beside_older:
            self._older_seen_at = now
        elif was_beside_older:
            self._swept_at = -math.inf

    def pause(self, _: object) -> float:
        """Return the seconds until it is asked again whether it is time."""
        return _CHECK_INTERVAL

    async def _sweep(self) -> SweepCounts | None:
        lanes = await self._correct_lanes()
        if lanes is None:
            return None
        placed, corrected = lanes
        waiting = 0
        for status in DELAYED:
            cursor: Any = None
            while True:
                page = await self._requests.entries(status, limit=_PAGE_SIZE, cursor=cursor)
                strays = [entry for entry in page.candidates if entry.request_id not in placed]
                corrected += await self._corrector.correct(strays, at_most=_PAGE_SIZE)
                waiting += len(page.candidates)
                cursor = page.cursor
                if cursor is None:
                    break
        return SweepCounts(waiting=waiting, corrected=corrected)

    async def _correct_lanes(self) -> tuple[set[str], int] | None:
        """Correct the entries of all lanes, due or not.

        Returns the ids that stand in a lane, and how many entries were corrected. None: the
        table has no DueIndex.
        """
        placed: set[str] = set()
        corrected = 0
        for lane in Lane:
            cursor: Any = None
            while True:
                page = await self._requests.due_entries(
                    lane, until=_END_OF_TIME, limit=_PAGE_SIZE, cursor=cursor
                )
                if page is None:
                    return None
                misplaced = [entry for entry in page.candidates if entry.misplaced]
                corrected += await self._corrector.correct(misplaced, at_most=_PAGE_SIZE)
                ids = (entry.request_id for entry in page.candidates)
                placed.update(islice(ids, _MAX_IDS - len(placed)))
                cursor = page.cursor
                if cursor is None:
                    break
        return placed, corrected


def _is_responsible(view: FleetView) -> bool:
    """Return whether this worker sweeps: it leads, or is the oldest beside an older leader."""
    if view.leads:
        return True
    candidates = [row for row in view.live if not row.draining]
    with_lanes = [row.worker_id for row in candidates if row.lanes]
    led_by_older = bool(candidates) and not candidates[0].lanes
    return led_by_older and with_lanes[:1] == [view.worker_id]
