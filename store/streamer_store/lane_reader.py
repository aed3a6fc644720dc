"""Reading DueIndex, where the table has it, and correcting the lanes of requests.

The index was added in a later release, and older releases and the Go store do not write its
keys. So a lane is only a hint: a request may stand in a wrong place, or in none. Whether it may
run is decided by Status and RetryAfter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import anyio

from streamer_store import codec, writes
from streamer_store.clock import Clock
from streamer_store.engine import ConditionFailed, Page, Query
from streamer_store.errors import (
    AccessDenied,
    InvalidInput,
    StoreError,
    TableMissing,
    Undecodable,
)
from streamer_store.lanes import Lane, place_of
from streamer_store.models import Candidate
from streamer_store.protocols import CandidatePage, Depth
from streamer_store.request_table import RequestTable
from streamer_store.schema import REQUESTS
from streamer_store.times import format_time
from streamer_store.transitions import DELAYED, RequestStatus
from streamer_store.validation import require_limit, require_time
from streamer_store.values import AttributeValue, Item

_DUE_INDEX: Final = REQUESTS.index("DueIndex")
# How long it is believed that the table has the index, or that it has not, in seconds.
_BELIEVED_FOR: Final = 300.0
# How soon the question is repeated after it had no answer, in seconds.
_ASK_AGAIN: Final = 10.0


class LaneReader:
    """The methods of RequestQueue about DueIndex."""

    def __init__(self, *, table: RequestTable, clock: Clock) -> None:
        self._table = table
        self._engine = table.engine
        self._index = _IndexState(table=table, clock=clock)

    async def due_entries(
        self,
        lane: Lane,
        *,
        until: datetime,
        limit: int,
        cursor: Item | None = None,
        newest_first: bool = False,
    ) -> CandidatePage | None:
        require_time("until", until)
        page = await self._query(
            lane,
            at_most=_text(until),
            limit=require_limit(limit),
            cursor=cursor,
            ascending=not newest_first,
        )
        if page is None:
            return None
        return CandidatePage(candidates=self._candidates(page), cursor=page.last_evaluated_key)

    async def lane_depths(
        self, lane: Lane, *, now: datetime, later: bool, limit: int
    ) -> Mapping[RequestStatus, Depth] | None:
        require_time("now", now)
        require_limit(limit)
        counts = dict.fromkeys(DELAYED, 0)
        oldest: dict[RequestStatus, datetime] = {}
        read, cursor = 0, None
        while True:
            page = await self._query(
                lane,
                at_least=_text(now) if later else None,
                at_most=None if later else _text(now),
                attributes=("Status", "CreatedAt", "RetryAfter"),
                limit=limit - read,
                cursor=cursor,
            )
            if page is None:
                return None
            for item in page.items:
                if codec.raw_text(item, "Status") not in counts:
                    continue
                entry = codec.candidate(item)
                if entry.due(now) is not later:
                    counts[entry.status] += 1
                    if entry.created_at is not None:
                        earliest = oldest.get(entry.status, entry.created_at)
                        oldest[entry.status] = min(earliest, entry.created_at)
            read, cursor = read + len(page.items), page.last_evaluated_key
            if cursor is None or read >= limit:
                break
        return {
            status: Depth(count=count, more=cursor is not None, oldest=oldest.get(status))
            for status, count in counts.items()
        }

    async def correct_lane(self, request_id: str) -> bool:
        item = await self._engine.get(REQUESTS, request_id)
        if item is None:
            return False
        with self._table.decoder.located("correct_lane"):
            seen = codec.candidate(item)
        place = place_of(
            seen.status, seen.priority, created_at=seen.created_at, retry_after=seen.retry_after
        )
        if codec.is_at(item, place):
            return False
        try:
            await self._engine.update(writes.correct_place(item, place))
        except ConditionFailed:
            return False  # The request has changed. A lane that is still wrong is met again.
        return True

    def _candidates(self, page: Page) -> list[Candidate]:
        """Return the entries. Report those whose Status this release does not know."""
        candidates = []
        for item in page.items:
            try:
                candidates.append(codec.due_entry(item))
            except Undecodable as error:
                self._table.decoder.report(error)
        return candidates

    async def _query(
        self,
        lane: Lane,
        *,
        at_least: AttributeValue | None = None,
        at_most: AttributeValue | None = None,
        attributes: tuple[str, ...] = (),
        limit: int,
        cursor: Item | None,
        ascending: bool = True,
    ) -> Page | None:
        """Return a page of a lane, or None if the table has no DueIndex that can be read."""
        if not await self._index.is_usable():
            return None
        query = Query(
            table=REQUESTS,
            index=_DUE_INDEX,
            value=Lane(lane).value,
            at_least=at_least,
            at_most=at_most,
            attributes=attributes,
            ascending=ascending,
            limit=limit,
            exclusive_start_key=cursor,
        )
        try:
            return await self._engine.query(query)
        except (AccessDenied, InvalidInput, TableMissing):
            # It was deleted, is being built, or the worker's policy does not name it yet.
            self._index.mark_unusable()
            return None


class _IndexState:
    """Whether the table has a DueIndex that can be read. DynamoDB is asked every 5 minutes."""

    def __init__(self, *, table: RequestTable, clock: Clock) -> None:
        self._engine = table.engine
        self._clock = clock
        self._usable = False
        self._ask_at = -math.inf
        self._first_question = anyio.Lock()
        self._is_answered = False

    async def is_usable(self) -> bool:
        if self._is_answered:
            await self._ask()
        else:  # no task goes by an answer that was never given
            async with self._first_question:
                await self._ask()
        return self._usable

    async def _ask(self) -> None:
        now = self._clock.steady()
        if now >= self._ask_at:
            self._ask_at = now + _BELIEVED_FOR  # before the call: other tasks do not ask too
            try:
                self._usable = await self._engine.has_index(REQUESTS, _DUE_INDEX)
            except StoreError:
                # The last answer is kept: DescribeTable may fail although queries do not.
                self._ask_at = now + _ASK_AGAIN
            self._is_answered = True

    def mark_unusable(self) -> None:
        self._usable = False
        self._ask_at = self._clock.steady() + _BELIEVED_FOR


def _text(moment: datetime) -> AttributeValue:
    return {"S": format_time(moment)}
