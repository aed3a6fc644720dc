"""The rules for the life of one request, without any code of the store."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

PENDING, PROCESSING, RETRYING = "PENDING", "PROCESSING", "RETRYING"
SCHEDULED = "SCHEDULED"
COMPLETED, FAILED, CANCELLED = "COMPLETED", "FAILED", "CANCELLED"
OK = "ok"
DELAY = 10
WAITING = {PENDING, RETRYING, SCHEDULED}


@dataclass(frozen=True)
class Row:
    """The state of a request. `version` is a value that is never used twice."""

    status: str
    version: Any
    retries: int = 0
    due: float | None = None
    worker: str | None = None
    written: int = 0


@dataclass
class Holder:
    """The memory of one party: the request as it last saw it, and its claim."""

    name: str
    seen: Row | None = None
    held: Row | None = None
    writes: int = 0


@dataclass
class Model:
    """A model of the store. Every method returns "ok" or the name of the expected error."""

    max_retries: int
    now: float = 0
    row: Row | None = None
    _fresh: Any = field(default_factory=itertools.count)

    def enqueue(self, _: Holder) -> str:
        if self.row is not None:
            return "AlreadyExists"
        self.row = Row(PENDING, next(self._fresh))
        return OK

    def enqueue_later(self, holder: Holder) -> str:
        answer = self.enqueue(holder)
        if answer == OK and self.row is not None:
            self.row = replace(self.row, status=SCHEDULED, due=self.now + DELAY)
        return answer

    def delete(self, _: Holder) -> str:
        self.row = None
        return OK

    def read(self, holder: Holder) -> str:
        if self.row is None:
            return "NotFound"
        holder.seen = self.row
        return OK

    def claim(self, holder: Holder) -> str:
        seen, row = holder.seen, self.row
        assert seen is not None
        if seen.status not in WAITING or (seen.due or 0) > self.now:
            return "RequestNotPending"
        if row is None:
            return "NotFound"
        if row.version != seen.version:
            return "ConcurrentModification" if row.status in WAITING else "RequestNotPending"
        self.row = replace(
            row,
            status=PROCESSING,
            version=next(self._fresh),
            worker=holder.name,
            due=None,
            written=0,
        )
        holder.held, holder.writes = self.row, 0
        return OK

    def progress(self, holder: Holder) -> str:
        holder.writes += 1
        answer = self._fence(holder, None)
        if answer == OK and self.row is not None:
            self.row = replace(self.row, written=max(self.row.written, holder.writes))
        return answer

    def late_progress(self, holder: Holder) -> str:
        """Repeat the last write of the claim."""
        holder.writes = max(holder.writes - 1, 0)
        return self.progress(holder)

    def complete(self, holder: Holder) -> str:
        return self._settle(holder, COMPLETED)

    def fail(self, holder: Holder) -> str:
        return self._settle(holder, FAILED)

    def retry(self, holder: Holder) -> str:
        return self._settle(holder, RETRYING, retries=1)

    def snooze(self, holder: Holder) -> str:
        return self._settle(holder, RETRYING)

    def release(self, holder: Holder) -> str:
        return self._settle(holder, PENDING)

    def rescue(self, holder: Holder) -> str:
        seen, row = holder.seen, self.row
        assert seen is not None
        if row is None:
            return "NotFound"
        if row.status != PROCESSING or row.version != seen.version:
            return "ConcurrentModification"
        if row.retries + 1 > self.max_retries:
            self._move(FAILED, worker=row.worker)
        else:
            self._move(RETRYING, retries=row.retries + 1, due=self.now)
        return OK

    def cancel(self, _: Holder) -> str:
        return self._cancel({*WAITING, PROCESSING})

    def cancel_by_update_status(self, _: Holder) -> str:
        return self._cancel(WAITING)

    def redrive(self, _: Holder) -> str:
        if self.row is None:
            return "NotFound"
        if self.row.status not in {FAILED, CANCELLED}:
            return "RequestNotPending"
        self._move(PENDING, retries=0)
        return OK

    def reschedule(self, _: Holder) -> str:
        if self.row is None:
            return "NotFound"
        if self.row.status not in WAITING:
            return "RequestNotPending"
        self._move(RETRYING if self.row.status == RETRYING else SCHEDULED, due=self.now + DELAY)
        return OK

    def redrive_by_update_status(self, holder: Holder) -> str:
        return self.redrive(holder)

    def complete_by_update_status(self, _: Holder) -> str:
        return "RequestNotPending"

    def wait(self, _: Holder) -> str:
        self.now += 7
        return OK

    def _cancel(self, before: set[str]) -> str:
        row = self.row
        if row is None:
            return "NotFound"
        if row.status == CANCELLED:
            return OK
        if row.status not in before:
            return "RequestNotPending"
        self._move(CANCELLED, worker=row.worker)
        return OK

    def _settle(self, holder: Holder, status: str, *, retries: int = 0) -> str:
        row, held = self.row, holder.held
        assert held is not None
        settled = ("outcome of", held.version)
        answer = self._fence(holder, settled if row and row.status == status else None)
        if answer == OK and row is not None and row.version != settled:
            worker = None if status in WAITING else row.worker
            due = self.now + DELAY if status == RETRYING else None
            self._move(status, settled, retries=held.retries + retries, worker=worker, due=due)
        return answer

    def _fence(self, holder: Holder, done: Any) -> str:
        row, held = self.row, holder.held
        assert held is not None
        if row is None:
            return "ClaimLost"
        if row.version == held.version or (done is not None and row.version == done):
            return OK
        return "Cancelled" if row.status == CANCELLED else "ClaimLost"

    def _move(self, status: str, version: Any = None, **changes: Any) -> None:
        assert self.row is not None
        fresh = next(self._fresh) if version is None else version
        unset = {"worker": None, "due": None}
        self.row = replace(self.row, **(unset | changes), status=status, version=fresh)
