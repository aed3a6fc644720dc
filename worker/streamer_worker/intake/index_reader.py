"""Reads the waiting requests of StatusIndex: its front, and page by page the rest."""

from __future__ import annotations

import math
from typing import Any, Final

from streamer_store import Candidate, Clock, RequestQueue, RequestStatus
from streamer_store.transitions import WAITING

MAX_PAGE_SIZE: Final = 1000
# How many entries per second the cursor covers at least, while there is work.
_CURSOR_SPEED: Final = 1000


class IndexReader:
    """Reads, for each status that waits, the first page and one page at a cursor.

    The cursor moves to the end of the index and starts again, so that requests at the front that
    cannot run never hide the others. One such way from the front to the end is a pass.
    """

    def __init__(self, *, requests: RequestQueue, clock: Clock) -> None:
        self._requests = requests
        self._clock = clock
        self._cursors: dict[RequestStatus, Any] = dict.fromkeys(WAITING)
        self._cursor_read_at: dict[RequestStatus, float] = dict.fromkeys(WAITING, -math.inf)
        # The statuses of which the cursor has reached the end at least once.
        self._passed: set[RequestStatus] = set()
        self._first_pass = True

    @property
    def has_read_all(self) -> bool:
        """Whether each cursor has reached the end of the index at least once."""
        return all(
            self._cursors[status] is None for status in WAITING if status not in self._passed
        )

    async def read(self, page_size: int) -> list[Candidate]:
        """Return the entries of the first pages, and of the pages at the cursors.

        A request may be returned twice. Raises what the store raises.
        """
        entries: list[Candidate] = []
        for status in WAITING:
            entries += await self._read_pages(status, page_size)
        return entries

    def on_polled(self, claimed: int) -> bool:
        """Record how many requests of the last `read` were claimed.

        Returns whether the cursor is still on its first pass since the last claim.
        """
        mid_pass = any(cursor is not None for cursor in self._cursors.values())
        self._first_pass = bool(claimed) or (self._first_pass and mid_pass)
        return self._first_pass and mid_pass

    async def _read_pages(self, status: RequestStatus, page_size: int) -> list[Candidate]:
        first = await self._requests.entries(status, limit=page_size)
        if first.cursor is None:
            self._cursors[status] = None
            return list(first.candidates)
        cursor = self._cursors[status] or first.cursor
        further = await self._requests.entries(
            status, limit=self._cursor_page_size(status, page_size), cursor=cursor
        )
        self._cursors[status] = further.cursor
        if further.cursor is None:
            self._passed.add(status)
        return [*first.candidates, *further.candidates]

    def _cursor_page_size(self, status: RequestStatus, page_size: int) -> int:
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
        since, self._cursor_read_at[status] = now - self._cursor_read_at[status], now
        if status not in self._passed or not self._first_pass:
            return MAX_PAGE_SIZE
        return min(MAX_PAGE_SIZE, max(page_size, int(min(since, 1) * _CURSOR_SPEED)))
