"""Reads of the table of requests: how many wait and run, and which ended last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from streamer_store import Candidate, Lane, RequestQueue, RequestStatus, codec
from streamer_store.attempts import ATTEMPTS, read_attempts
from streamer_store.engine import Engine
from streamer_store.schema import REQUESTS
from streamer_store.transitions import DELAYED
from streamer_worker.cli.status.snapshot import (
    ActionCount,
    Depth,
    EndedRequest,
    Sample,
    earliest,
)
from streamer_worker.error_codes import WORKER_LOST

COUNTED: Final = 1_000
"""How many requests of a status, or of a lane of DueIndex, are counted."""
SAMPLES: Final = {
    RequestStatus.COMPLETED: 100,
    RequestStatus.FAILED: 100,
    RequestStatus.RETRYING: 50,
}
"""How many of the newest requests of a status are read whole, to see when they ended."""
# A page has up to 1 MB, which is about 4,000 entries. Long action names make it shorter.
_MAX_PAGES: Final = 3
_SAMPLE_AGE: Final = timedelta(days=1)
_MAX_CONFIRMED: Final = 25
_ENDED: Final = (
    *("RequestID", "Status", "Version", "Action", "ErrorCode", "ProcessingEnded"),
    ATTEMPTS,
)
_MINUTE: Final = timedelta(minutes=1)


class QueueReader:
    """Reads the requests. `depths` and `broken` are what the last reads have found."""

    SAMPLED: Final = tuple(SAMPLES)

    def __init__(self, *, requests: RequestQueue, engine: Engine) -> None:
        self._requests = requests
        self._engine = engine
        self._running: list[Candidate] = []
        self._running_more = False
        # The ended requests of the last sample by their Version, which changes if they run again.
        self._known: dict[RequestStatus, dict[tuple[str, str], EndedRequest]] = {}
        self.depths: dict[RequestStatus, Depth] = {}
        self.broken: list[str] = []

    async def read_running(self, now: Callable[[], datetime]) -> None:
        """Read the PROCESSING requests. This must be the first read of a snapshot."""
        self.depths, self.broken, self._running = {}, [], []
        status = RequestStatus.PROCESSING
        self._running, self._running_more = await self._entries(status)
        self.depths[status] = self._depth(self._running, more=self._running_more, now=now())

    async def read_pending(self, now: datetime) -> None:
        """Read the PENDING requests, oldest first."""
        entries, more = await self._entries(RequestStatus.PENDING)
        self.depths[RequestStatus.PENDING] = self._depth(entries, more=more, now=now)

    async def read_delayed(self, now: datetime) -> None:
        """Read the RETRYING and SCHEDULED requests, by DueIndex where the table has it."""
        due: list[Candidate] = []
        more = False
        later = dict.fromkeys(DELAYED, 0)
        later_more = False
        for lane in Lane:
            page = await self._requests.due_entries(lane, until=now, limit=COUNTED)
            depths = await self._requests.lane_depths(lane, now=now, later=True, limit=COUNTED)
            if page is None or depths is None:
                await self._read_delayed_by_status(now)
                return
            due += [entry for entry in page.candidates if entry.status in DELAYED]
            more = more or page.cursor is not None
            for status, depth in depths.items():
                later[status] += depth.count
                later_more = later_more or depth.more
        for status in DELAYED:
            self.depths[status] = self._depth(
                [entry for entry in due if entry.status is status and entry.due(now)],
                more=more and any(entry.status is status for entry in due),
                now=now,
                later=later[status],
                later_more=later_more and later[status] > 0,
            )

    async def _read_delayed_by_status(self, now: datetime) -> None:
        for status in DELAYED:
            entries, more = await self._entries(status)
            due = [entry for entry in entries if entry.due(now)]
            later = len(entries) - len(due)
            self.depths[status] = self._depth(due, more=more, now=now, later=later, later_more=more)

    async def sample(self, status: RequestStatus, now: datetime) -> Sample:
        """Return when the newest requests of a status ended, and how.

        A request that was read before is not read again.
        """
        entries, more = await self._entries(
            status, SAMPLES[status], since=now - _SAMPLE_AGE, newest_first=True
        )
        keys = {_key(entry): entry.request_id for entry in entries}
        known = {key: ended for key, ended in self._known.get(status, {}).items() if key in keys}
        missing = [request_id for key, request_id in keys.items() if key not in known]
        for item in await self._engine.get_many(REQUESTS, missing, attributes=_ENDED):
            if codec.raw_text(item, "Status") == status.value:
                request_id = codec.raw_text(item, "RequestID")
                known[request_id, codec.raw_text(item, "Version")] = EndedRequest(
                    request_id=request_id,
                    action=codec.raw_text(item, "Action"),
                    code=codec.raw_text(item, "ErrorCode"),
                    at=codec.raw_time(item, "ProcessingEnded"),
                    lost={
                        attempt.worker_id: attempt.ended
                        for attempt in read_attempts(item.get(ATTEMPTS, {}))
                        if attempt.error_code == WORKER_LOST and attempt.worker_id is not None
                    },
                )
        self._known[status] = known
        return Sample(requests=list(known.values()), full=more)

    async def orphans(self, alive: set[str]) -> tuple[list[str], bool]:
        """Return the ids of PROCESSING requests whose worker does not live, and if there are more.

        The index lags, so that up to 25 of them are read from the table. Requests without a
        WorkerID belong to another consumer.
        """
        suspects = [
            entry
            for entry in self._running
            if entry.worker_id is not None and entry.worker_id not in alive
        ]
        checked = {entry.request_id: entry.worker_id for entry in suspects[:_MAX_CONFIRMED]}
        items = await self._engine.get_many(
            REQUESTS, list(checked), attributes=("RequestID", "Status", "WorkerID")
        )
        found = [
            request_id
            for item in items
            if codec.raw_text(item, "Status") == RequestStatus.PROCESSING.value
            and (request_id := codec.raw_text(item, "RequestID")) in checked
            and codec.raw_text(item, "WorkerID") == checked[request_id]
        ]
        return sorted(found), len(suspects) > len(checked)

    async def _entries(
        self,
        status: RequestStatus,
        limit: int = COUNTED,
        *,
        since: datetime | None = None,
        newest_first: bool = False,
    ) -> tuple[list[Candidate], bool]:
        """Return the oldest or newest requests of a status, and whether there are more.

        A page may have few entries, where the items are large.
        """
        entries: list[Candidate] = []
        cursor = None
        for _ in range(_MAX_PAGES):
            page = await self._requests.entries(
                status,
                limit=limit - len(entries),
                cursor=cursor,
                since=since,
                newest_first=newest_first,
            )
            entries += page.candidates
            cursor = page.cursor
            if cursor is None or len(entries) >= limit:
                break
        return entries, cursor is not None

    def _depth(
        self,
        entries: Iterable[Candidate],
        *,
        more: bool,
        now: datetime,
        later: int = 0,
        later_more: bool = False,
    ) -> Depth:
        counts: dict[str, ActionCount] = {}
        total, recent = 0, 0
        for entry in entries:
            if entry.broken is not None:
                self.broken.append(f"request {entry.request_id}: {entry.broken}")
            total += 1
            since = _waits_since(entry)
            if since is not None and now - since < _MINUTE:
                recent += 1
            name = entry.action or ""
            known = counts.get(name, ActionCount(count=0, oldest=None))
            counts[name] = ActionCount(count=known.count + 1, oldest=earliest(known.oldest, since))
        return Depth(
            count=total,
            more=more,
            oldest=earliest(*(found.oldest for found in counts.values())),
            later=later,
            later_more=later_more,
            actions=counts,
            arrived=None if more else recent,
        )


def _key(entry: Candidate) -> tuple[str, str]:
    version = (entry.seen_version or {}).get("S")
    return entry.request_id, version if isinstance(version, str) else ""


def _waits_since(entry: Candidate) -> datetime | None:
    """Return when the request was created, or if it was delayed, when it became due."""
    if entry.status in DELAYED and entry.retry_after is not None:
        return entry.retry_after
    return entry.created_at
