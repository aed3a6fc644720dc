"""Reads the waiting requests of the indexes: their front, and page by page the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streamer_store import Candidate, CandidatePage, Clock, Lane, RequestQueue, RequestStatus
from streamer_store.transitions import DELAYED, WAITING
from streamer_worker.intake.lane_corrector import LaneCorrector

MAX_PAGE_SIZE: Final = 1000
# How many entries per second the cursor covers at least, while there is work.
_CURSOR_SPEED: Final = 1000
# How often a partition is read in which there was nothing to claim, in seconds.
_IDLE_INTERVAL: Final = 1.0
# How far ahead of now lanes are read, beside the longest pause between polls. So their requests are
# known before they are due, and start on time although an idle lane is read once a second.
_AHEAD: Final = timedelta(seconds=2)
# PENDING requests of high priority stand at the time of their producer's clock.
_AHEAD_HIGH: Final = timedelta(minutes=5)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Source:
    """A partition of StatusIndex or DueIndex, and how far it has been read.

    - `cursor`: where the next page starts. None: behind the first page.
    - `passed`: the cursor has reached the end at least once.
    - `idle`: there was nothing in it when it was read last.
    - `newest_read_at`: when the page at its end was read last.
    """

    partition: RequestStatus | Lane
    cursor: Any = None
    cursor_read_at: float = -math.inf
    passed: bool = False
    idle: bool = False
    read_at: float = -math.inf
    newest_read_at: float = -math.inf
    until: datetime = _NEVER


class IndexReader:
    """Reads, of each partition with waiting requests, the first page and one page at a cursor.

    Once a second the page at the end is added, so that new requests do not wait for the cursor
    if those before them cannot run. The partitions are PENDING in StatusIndex, and the lanes of
    DueIndex up to now. Without a DueIndex they are all waiting statuses in StatusIndex, with the
    requests that wait for later.

    The cursor moves to the end of the partition and starts again, so that requests at the front
    that cannot run never hide the others. One such way from the front to the end is a pass. A
    lane is read once a second if it was empty, or if a whole pass led to no claim. While this
    worker claims requests it may also retry some at once, so `due` is then read each time. `low`
    is read once a second, and when nothing else can be claimed.

    `max_pause`: the longest pause between reads, in seconds.
    """

    def __init__(self, *, requests: RequestQueue, clock: Clock, max_pause: float = 0.0) -> None:
        self._requests = requests
        self._clock = clock
        self._corrector = LaneCorrector(requests=requests)
        self._statuses = {status: _Source(status) for status in WAITING}
        self._lanes = {lane: _Source(lane) for lane in Lane}
        # Whether low requests were asked for since the last read, as nothing else can be claimed.
        self._needs_low = False
        self._began = -math.inf
        self._first_pass = True
        self._claimed_at = -math.inf
        ahead = timedelta(seconds=max_pause) + _AHEAD
        self._ahead = {Lane.HIGH: max(ahead, _AHEAD_HIGH), Lane.DUE: ahead, Lane.LOW: ahead}

    @property
    def has_read_all(self) -> bool:
        """Whether each cursor has reached the end of its partition at least once."""
        return all(
            source.cursor is None or source.passed
            for source in self._sources()
            if source.partition is not Lane.LOW or self._needs_low
        )

    async def read(self, page_size: int) -> list[Candidate]:
        """Return the entries of the first pages, and of the pages at the cursors.

        A request may be returned twice. Entries of DueIndex that stand in a wrong place are
        corrected. Raises what the store raises.
        """
        self._needs_low, self._began = False, self._clock.steady()
        entries = await self._read_pages(self._statuses[RequestStatus.PENDING], page_size) or []
        waiting_for_later = await self._read_lanes(page_size)
        if waiting_for_later is None:
            waiting_for_later = await self._read_statuses(page_size)
        return entries + waiting_for_later

    async def read_low(self, page_size: int) -> list[Candidate]:
        """Return the entries of `low`, as `read` does.

        Returns none if the last `read` has returned them, or if there were none within a second.
        """
        self._needs_low = True
        lane = self._lanes[Lane.LOW]
        if lane.read_at >= self._began or (lane.idle and self._is_recent(lane.read_at)):
            return []
        return await self._corrected(await self._read_pages(lane, page_size) or [])

    async def look(self, page_size: int, *, normal: bool) -> list[Candidate]:
        """Return the entries of the first page of `high`, and with `normal` those of PENDING.

        Unlike `read` it says nothing about how far the partitions have been read.
        """
        high = self._lanes[Lane.HIGH]
        sources = (high, self._statuses[RequestStatus.PENDING]) if normal else (high,)
        entries: list[Candidate] = []
        for source in sources:
            page = await self._page(source, page_size, None)
            if page is not None and page.candidates:
                source.idle = False
                entries += page.candidates
        return await self._corrected(entries)

    def on_polled(self, claimed: int, *, bounded: bool = False) -> bool:
        """Record how many requests of the last `read` were claimed.

        `bounded`: limits hold back more of their kind, so these claims do not mean that there is
        more to find. Returns whether the cursor is still on its first pass since the last claim
        that was not bounded.
        """
        if claimed:
            self._claimed_at = self._clock.steady()
        mid_pass = any(source.cursor is not None for source in self._sources())
        found = claimed > 0 and not bounded
        self._first_pass = found or (self._first_pass and mid_pass)
        return self._first_pass and mid_pass

    async def _read_lanes(self, page_size: int) -> list[Candidate] | None:
        """Return the entries of the lanes to read now, or None if the table has no DueIndex."""
        entries: list[Candidate] = []
        for source in self._lanes.values():
            if not self._rests(source):
                found = await self._read_pages(source, page_size)
                if found is None:
                    for lane in self._lanes.values():
                        lane.cursor = None
                    return None
                entries += found
        for status in DELAYED:
            self._statuses[status].cursor = None
        return await self._corrected(entries)

    async def _corrected(self, entries: list[Candidate]) -> list[Candidate]:
        """Correct the entries that stand in a wrong place, and return those that wait."""
        await self._corrector.correct(entry for entry in entries if entry.misplaced)
        return [entry for entry in entries if entry.status in WAITING]

    async def _read_statuses(self, page_size: int) -> list[Candidate]:
        """Return the entries of RETRYING and SCHEDULED, due or not."""
        entries: list[Candidate] = []
        for status in DELAYED:
            source = self._statuses[status]
            # Few tables have SCHEDULED requests. RETRYING ones are read as often as PENDING ones.
            if status is RequestStatus.RETRYING or not (
                source.idle and self._is_recent(source.read_at)
            ):
                entries += await self._read_pages(source, page_size) or []
        return entries

    def _rests(self, lane: _Source) -> bool:
        """Return whether the lane is left out of this read."""
        if not self._is_recent(lane.read_at):
            return False
        if lane.partition is Lane.DUE and self._is_recent(self._claimed_at):
            return False
        return lane.idle or not self._first_pass or lane.partition is Lane.LOW

    def _is_recent(self, moment: float) -> bool:
        return self._clock.steady() - moment < _IDLE_INTERVAL

    async def _read_pages(self, source: _Source, page_size: int) -> list[Candidate] | None:
        source.read_at = self._clock.steady()
        first = await self._page(source, page_size, None)
        if first is None:
            return None
        source.idle = not first.candidates and first.cursor is None
        if first.cursor is None:
            source.cursor = None
            return list(first.candidates)
        cursor = source.cursor or first.cursor
        further = await self._page(source, self._cursor_page_size(source, page_size), cursor)
        if further is None:
            return None
        source.cursor = further.cursor
        entries = [*first.candidates, *further.candidates]
        if further.cursor is None:
            source.passed = True
        elif not self._is_recent(source.newest_read_at):
            source.newest_read_at = self._clock.steady()
            newest = await self._page(source, page_size, None, newest_first=True)
            entries += newest.candidates if newest is not None else ()
        return entries

    async def _page(
        self, source: _Source, limit: int, cursor: Any, *, newest_first: bool = False
    ) -> CandidatePage | None:
        """Return a page of a partition. None: it is a lane, and the table has no DueIndex."""
        if isinstance(source.partition, RequestStatus):
            return await self._requests.entries(
                source.partition, limit=limit, cursor=cursor, newest_first=newest_first
            )
        # Never earlier than before, because DynamoDB refuses a cursor that is later.
        source.until = max(source.until, self._clock.now() + self._ahead[source.partition])
        return await self._requests.due_entries(
            source.partition,
            until=source.until,
            limit=limit,
            cursor=cursor,
            newest_first=newest_first,
        )

    def _sources(self) -> Iterable[_Source]:
        return (*self._statuses.values(), *self._lanes.values())

    def _cursor_page_size(self, source: _Source, page_size: int) -> int:
        """Return the size of the page at the cursor.

        There are three cases:

        1. The cursor has never reached the end: the largest page. Until then the tenants whose
           requests are further on are not served.
        2. The cursor has completed a pass since the last claim: the largest page. Polls are rare
           then.
        3. Otherwise: the size of the first page, or more if polls are so rare that the cursor
           would cover less than 1,000 entries a second.
        """
        now = self._clock.steady()
        since, source.cursor_read_at = now - source.cursor_read_at, now
        if not source.passed or not self._first_pass:
            return MAX_PAGE_SIZE
        return min(MAX_PAGE_SIZE, max(page_size, int(min(since, 1) * _CURSOR_SPEED)))
