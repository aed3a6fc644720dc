"""What an operator can do to a request: `cancel`, `redrive`, `reschedule` and `update_status`.

Each action reads the request and writes on the condition that its Version has not changed. If
the Version has changed, the action starts again with the new item.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from streamer_store import codec, operator_writes
from streamer_store.clock import Clock, new_id
from streamer_store.engine import ConditionFailed, Update
from streamer_store.errors import ConcurrentModification, ValidationError
from streamer_store.models import AsyncRequest
from streamer_store.protocols import WorkerRegistry
from streamer_store.request_table import RequestTable
from streamer_store.run_times import require_run_time, run_time
from streamer_store.schema import REQUESTS
from streamer_store.transitions import TERMINAL, WAITING, RequestStatus, sources
from streamer_store.unit_limiter import UnitLimiter
from streamer_store.validation import require_status, require_text
from streamer_store.values import Item
from streamer_store.versions import cancel_version, has_version
from streamer_store.write_units import updated, write_units

if TYPE_CHECKING:
    import random

_MAX_TRIES: Final = 10
_UNLIMITED: Final = UnitLimiter("max_write_units", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an action does to one request."""

    operation: str
    request_id: str
    update: Callable[[Item], Update]
    """Returns the write for the item seen."""
    allowed: Collection[RequestStatus]
    """The statuses that the request may have."""
    done: RequestStatus | None = None
    """The status in which nothing has to be written. None: there is none."""
    version: str = ""
    """The Version that every write of this change sets. Empty: it depends on the Version seen."""

    def is_done(self, seen: Item) -> bool:
        """Return whether nothing has to be written, or an earlier copy took effect (VERSION-2).

        If the request was cancelled after that write, the cancellation is kept.
        """
        if self.done is not None and codec.raw_text(seen, "Status") == self.done:
            return True
        own = (self.version, cancel_version(self.version)) if self.version else ()
        return any(has_version(seen, version) for version in own)


class OperatorActions:
    """The methods of RequestQueue that change a request without a claim."""

    def __init__(
        self, *, table: RequestTable, workers: WorkerRegistry, clock: Clock, rng: random.Random
    ) -> None:
        self._table = table
        self._engine = table.engine
        self._workers = workers
        self._clock = clock
        self._rng = rng

    async def cancel(self, request_id: str) -> AsyncRequest:
        return await self._act(self.cancellation("cancel", request_id))

    async def redrive(self, request_id: str) -> AsyncRequest:
        return await self._act(self.redriving("redrive", request_id))

    async def reschedule(
        self,
        request_id: str,
        *,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        beyond_a_year: bool = False,
    ) -> AsyncRequest:
        now = self._clock.now()
        moment = run_time(run_at, delay, now=now)
        if moment is None:
            raise ValidationError("run_at", "is missing: give `run_at` or `delay`")
        require_run_time(moment, now=now, beyond_a_year=beyond_a_year)
        return await self._act(self._rescheduling(request_id, moment))

    async def update_status(
        self, request_id: str, status: RequestStatus, message: str | None = None
    ) -> AsyncRequest:
        operation = "update_status"
        change = self.status_change(operation, request_id, status, message)
        if change is not None:
            return await self._act(change)
        require_text("request_id", request_id)
        seen = codec.raw_text(await self._engine.get(REQUESTS, request_id) or {}, "Status")
        text = f"a request becomes {status} only by its worker; use CANCELLED or PENDING"
        raise self._table.not_pending(operation, request_id, seen, text)

    def status_change(
        self,
        operation: str,
        request_id: str,
        status: RequestStatus,
        message: str | None,
        *,
        returning: bool = True,
    ) -> Change | None:
        """Return the change that gives a request a status, or None if only a worker can."""
        match require_status(status):
            case RequestStatus.CANCELLED:
                return self.cancellation(
                    operation, request_id, allowed=WAITING, message=message, returning=returning
                )
            case RequestStatus.PENDING:
                return self.redriving(operation, request_id, message, returning=returning)
        return None

    def cancellation(
        self,
        operation: str,
        request_id: str,
        *,
        allowed: Collection[RequestStatus] = sources(RequestStatus.CANCELLED),
        message: str | None = None,
        returning: bool = True,
    ) -> Change:
        """Return the change that cancels a request."""

        def update(seen: Item) -> Update:
            seen_version = seen.get("Version", {}).get("S")
            version = cancel_version(seen_version) if seen_version else new_id(self._rng)
            return operator_writes.cancel(
                seen,
                version=version,
                message=message,
                now=self._clock.now(),
                kept_for=self._table.retention.cancelled,
                returning=returning,
            )

        return Change(
            operation=operation,
            request_id=request_id,
            update=update,
            allowed=allowed,
            done=RequestStatus.CANCELLED,
        )

    def redriving(
        self,
        operation: str,
        request_id: str,
        message: str | None = None,
        *,
        allowed: Collection[RequestStatus] = sources(RequestStatus.PENDING) & TERMINAL,
        returning: bool = True,
    ) -> Change:
        """Return the change that redrives a request."""
        version = new_id(self._rng)

        def update(seen: Item) -> Update:
            return operator_writes.redrive(
                seen, version=version, message=message, now=self._clock.now(), returning=returning
            )

        return Change(
            operation=operation,
            request_id=request_id,
            update=update,
            allowed=allowed,
            version=version,
        )

    def _rescheduling(self, request_id: str, run_at: datetime) -> Change:
        """Return the change that lets a waiting request run at another time."""
        version = new_id(self._rng)

        def update(seen: Item) -> Update:
            return operator_writes.reschedule(
                seen, version=version, run_at=run_at, now=self._clock.now()
            )

        return Change(
            operation="reschedule",
            request_id=request_id,
            update=update,
            allowed=WAITING,
            version=version,
        )

    async def carry_out(self, change: Change, seen: Item, limiter: UnitLimiter) -> Item:
        """Write the change of the item seen, until its condition holds.

        Returns the item after the write. An update that is not `returning` leaves it as computed
        here. Raises NotFound; RequestNotPending; ConcurrentModification.
        """
        tries = 0
        while not change.is_done(seen):
            status = codec.raw_text(seen, "Status")
            if status not in change.allowed:
                raise self._table.not_pending(change.operation, change.request_id, status)
            if tries == _MAX_TRIES:
                where = self._table.location(change.operation, change.request_id)
                raise ConcurrentModification("the request keeps changing", **where)
            tries += 1
            update = change.update(seen)
            if limiter.is_limited:
                await limiter.spend(write_units(REQUESTS, seen, updated(seen, update)))
            try:
                return await self._engine.update(update) or updated(seen, update)
            except ConditionFailed as failed:
                if failed.old is None:
                    raise self._table.not_found(change.operation, change.request_id) from None
                seen = failed.old
        return seen

    async def _act(self, change: Change) -> AsyncRequest:
        seen = await self._table.get_item(change.operation, change.request_id)
        item = await self.carry_out(change, seen, _UNLIMITED)
        worker_id = worker_to_notify(change, item)
        if worker_id:
            await self._workers.request_cancel(worker_id, codec.raw_text(item, "Version"))
        return self._table.decoder.decode_one(change.operation, item)


def worker_to_notify(change: Change, item: Item) -> str:
    """Return the worker whose mailbox gets the Version of the cancelled item. Empty: none."""
    return codec.raw_text(item, "WorkerID") if change.done is RequestStatus.CANCELLED else ""
