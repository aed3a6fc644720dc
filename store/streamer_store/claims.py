"""Claiming, and every write by the holder of a claim.

A failed condition is our own success exactly when the old item carries the Version that this
very write would have set: the client sends a write again when its answer was lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from streamer_store import codec, writes
from streamer_store.clock import Clock, new_id
from streamer_store.engine import ConditionFailed, Engine, Update
from streamer_store.errors import (
    Cancelled,
    ClaimLost,
    ConcurrentModification,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    Undecodable,
    ValidationError,
    located,
)
from streamer_store.models import AsyncRequest, Candidate, Claim, Progress, require_text
from streamer_store.rescues import Rescued, WorkerLoss, after_loss
from streamer_store.schema import REQUESTS
from streamer_store.transitions import WAITING, RequestStatus
from streamer_store.values import Item, encode

if TYPE_CHECKING:
    import random

INVALID_REQUEST = "INVALID_REQUEST"
ITEM_TOO_LARGE = "ITEM_TOO_LARGE"


class Claims:
    def __init__(self, *, engine: Engine, clock: Clock, rng: random.Random) -> None:
        self._engine = engine
        self._clock = clock
        self._rng = rng
        self._table = engine.table_name(REQUESTS)

    async def claim(
        self,
        candidate: Candidate,
        *,
        worker_id: str | None = None,
        version: str | None = None,
        alone: bool = False,
    ) -> Claim:
        now = self._clock.now()
        if candidate.status not in WAITING:
            raise self._not_pending("claim", candidate.request_id, candidate.status)
        if not candidate.due(now):
            raise self._not_pending("claim", candidate.request_id, candidate.status, "not due yet")
        if candidate.broken is not None:
            broken = Undecodable(candidate.broken, **self._at("claim", candidate.request_id))
            await self._give_up(candidate, str(broken), INVALID_REQUEST)
            raise broken
        version = version or new_id(self._rng)
        update = writes.claim(candidate, worker_id=worker_id, version=version, now=now, alone=alone)
        try:
            item = await self._write_as_seen(candidate, update)
        except ItemTooLarge as error:
            await self._give_up(candidate, str(error), ITEM_TOO_LARGE)
            raise
        try:
            return Claim(request=codec.request(item), version=version)
        except Undecodable as error:
            held = _handle(candidate.request_id, version)
            await self.fail(held, str(error), INVALID_REQUEST)
            with located("claim", self._table):
                raise

    async def update_progress(
        self,
        claim: Claim,
        progress: float | None = None,
        message: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        told = Progress(progress, message, details)
        update = writes.progress(claim, seq=claim.next_seq(), progress=told)
        await self._write_held("update_progress", claim, update)

    async def checkpoint(
        self, claim: Claim, value: Any, *, progress: Progress | None = None
    ) -> None:
        encoded = encode(value, "checkpoint")
        update = writes.progress(claim, seq=claim.next_seq(), progress=progress, checkpoint=encoded)
        await self._write_held("checkpoint", claim, update)

    async def complete(
        self,
        claim: Claim,
        result: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        version = writes.settle_version(claim.version)
        now = self._clock.now()
        updates = [
            writes.complete(
                claim, result=result, version=version, now=now, progress=progress, drop=drop
            )
            for drop in ((), writes.DROPPED_FOR_RESULT)
        ]
        await _write_what_fits(
            updates, lambda update: self._settle("complete", claim, update, version)
        )

    async def fail(
        self, claim: Claim, error: str, code: str, *, progress: Progress | None = None
    ) -> None:
        require_text("error", error)
        require_text("code", code)
        version = writes.settle_version(claim.version)
        now = self._clock.now()
        updates = [
            writes.fail(
                claim,
                error=error,
                code=ITEM_TOO_LARGE if drop else code,
                version=version,
                now=now,
                drop=drop,
                progress=progress,
            )
            for drop in writes.ERROR_SPACE_STEPS
        ]
        await _write_what_fits(updates, lambda update: self._settle("fail", claim, update, version))

    async def retry(
        self,
        claim: Claim,
        after: timedelta,
        *,
        error: str | None = None,
        code: str | None = None,
        counts: bool = True,
        rescued: Rescued | None = None,
        progress: Progress | None = None,
    ) -> None:
        if after < timedelta():
            raise ValidationError("after", "must not be negative")
        version = writes.settle_version(claim.version)
        try:
            update = writes.retry(
                claim,
                after=after,
                error=error,
                code=code,
                counts=counts,
                version=version,
                now=self._clock.now(),
                rescued=rescued,
                progress=progress,
            )
        except OverflowError as overflow:
            raise ValidationError("after", "reaches past the year 9999") from overflow
        await self._settle("retry", claim, update, version)

    async def release(self, claim: Claim, *, progress: Progress | None = None) -> None:
        version = writes.settle_version(claim.version)
        update = writes.release(claim, version=version, now=self._clock.now(), progress=progress)
        await self._settle("release", claim, update, version)

    async def rescue(
        self, seen: Candidate, *, error: str, code: str, loss: WorkerLoss | None = None
    ) -> RequestStatus:
        where = self._at("rescue", seen.request_id)
        item = await self._engine.get(REQUESTS, seen.request_id)
        if item is None:
            raise NotFound("no such request", **where)
        if not _is_running_as_seen(item, seen):
            raise ConcurrentModification("the request has moved on", **where)
        try:
            request = codec.request(item)
            update = writes.rescue(
                seen,
                request,
                error=error,
                code=code,
                version=new_id(self._rng),
                now=self._clock.now(),
                rescued=None if loss is None else after_loss(request, loss, self._rng),
            )
            await self._write_as_seen(seen, update)
        except Undecodable as broken:
            await self._give_up(seen, str(broken), INVALID_REQUEST)
        except ItemTooLarge:
            await self._give_up(seen, error, ITEM_TOO_LARGE)
        else:
            return RequestStatus(update.sets["Status"]["S"])
        return RequestStatus.FAILED

    async def _give_up(self, seen: Candidate, error: str, code: str) -> None:
        """Fail a request as it was seen, in one write: nobody holds it in between."""
        version = new_id(self._rng)
        now = self._clock.now()
        updates = [
            writes.give_up(seen, error=error, code=code, version=version, now=now, drop=drop)
            for drop in writes.ERROR_SPACE_STEPS
        ]
        await _write_what_fits(updates, lambda update: self._write_as_seen(seen, update))

    async def _write_as_seen(self, seen: Candidate, update: Update) -> Item:
        try:
            return await self._engine.update(update)
        except ConditionFailed as failed:
            operation = "claim" if seen.status in WAITING else "rescue"
            where = self._at(operation, seen.request_id)
            if failed.old is None:
                raise NotFound("no such request", **where) from None
            if carries(failed.old, update.sets["Version"]["S"]):
                return failed.old
            status = codec.raw_text(failed.old, "Status")
            if seen.status in WAITING and status not in WAITING:
                raise self._not_pending(operation, seen.request_id, status) from None
            raise ConcurrentModification("the request has moved on", **where) from None

    async def _write_held(self, operation: str, claim: Claim, update: Update) -> None:
        try:
            await self._engine.update(update)
        except ConditionFailed as failed:
            if not _still_held(claim, failed.old):
                raise self._lost(operation, claim, failed.old) from None

    async def _settle(self, operation: str, claim: Claim, update: Update, version: str) -> None:
        try:
            await self._engine.update(update)
        except ConditionFailed as failed:
            # The Version is that of any outcome of this claim: it must be this outcome, too.
            old = failed.old
            if old is None or not carries(old, version) or old["Status"] != update.sets["Status"]:
                raise self._lost(operation, claim, old) from None

    def _lost(self, operation: str, claim: Claim, old: Item | None) -> ClaimLost:
        where = self._at(operation, claim.request_id)
        if old is None:
            return ClaimLost("the request no longer exists", **where)
        status = codec.raw_text(old, "Status")
        if status == RequestStatus.CANCELLED:
            return Cancelled("the request was cancelled", status=status, **where)
        return ClaimLost(f"the request is {status} by another write", status=status, **where)

    def _not_pending(
        self, operation: str, request_id: str, status: str, message: str | None = None
    ) -> RequestNotPending:
        """Return the error for a request that has this status, of whatever text."""
        known = RequestStatus(status) if status in set(RequestStatus) else None
        where = self._at(operation, request_id)
        return RequestNotPending(message or f"the request is {status}", status=known, **where)

    def _read(self, operation: str, item: Item) -> AsyncRequest:
        with located(operation, self._table):
            return codec.request(item)

    def _at(self, operation: str, key: str) -> dict[str, Any]:
        return {"operation": operation, "table": self._table, "key": key}


def carries(item: Item, version: str) -> bool:
    """Whether the item bears exactly this Version."""
    return item.get("Version") == {"S": version}


async def _write_what_fits(
    updates: Iterable[Update], write: Callable[[Update], Awaitable[object]]
) -> None:
    """Write the first of the updates that DynamoDB has room for. Raises the last ItemTooLarge."""
    full = None
    for update in updates:
        try:
            await write(update)
        except ItemTooLarge as error:
            full = error
        else:
            return
    if full is not None:
        raise full


def _is_running_as_seen(item: Item, seen: Candidate) -> bool:
    return item.get("Version") == seen.seen_version and (
        codec.raw_text(item, "Status") == seen.status == RequestStatus.PROCESSING
    )


def _still_held(claim: Claim, old: Item | None) -> bool:
    # Then only WriteSeq stood in the way: this write, or a newer one, is there already.
    return (
        old is not None
        and carries(old, claim.version)
        and codec.raw_text(old, "Status") == RequestStatus.PROCESSING
    )


def _handle(request_id: str, version: str) -> Claim:
    """Return a claim on an item that cannot be read; good for failing it, nothing else."""
    return Claim(request=AsyncRequest(action="unknown", request_id=request_id), version=version)
