"""Claims of requests, the writes that a claim allows, and rescues.

The client repeats a write whose answer was lost. The condition of the copy then fails, although
the first write took effect. In that case the item has the Version that this write sets (VERSION-2).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from streamer_store import codec, writes
from streamer_store.clock import Clock, new_id
from streamer_store.engine import ConditionFailed, Update
from streamer_store.errors import (
    Cancelled,
    ClaimLost,
    ConcurrentModification,
    ItemTooLarge,
    Undecodable,
    ValidationError,
)
from streamer_store.item_space import update_with_space, write_first_that_fits
from streamer_store.models import AsyncRequest, Candidate, Claim, Progress
from streamer_store.request_table import RequestTable
from streamer_store.rescues import Rescued, WorkerLoss, after_loss
from streamer_store.transitions import WAITING, RequestStatus
from streamer_store.validation import require_text
from streamer_store.values import Item, encode
from streamer_store.versions import has_version, settle_version

if TYPE_CHECKING:
    import random

INVALID_REQUEST: Final = "INVALID_REQUEST"
"""The ErrorCode of a request that cannot be decoded."""
ITEM_TOO_LARGE: Final = "ITEM_TOO_LARGE"
"""The ErrorCode of a request whose item has no room for a write."""


class ClaimWriter:
    """The methods of RequestQueue that make a claim, or need one."""

    def __init__(self, *, table: RequestTable, clock: Clock, rng: random.Random) -> None:
        self._table = table
        self._engine = table.engine
        self._clock = clock
        self._rng = rng

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
            raise self._table.not_pending("claim", candidate.request_id, candidate.status)
        if not candidate.due(now):
            raise self._table.not_pending(
                "claim", candidate.request_id, candidate.status, "not due yet"
            )
        if candidate.broken is not None:
            where = self._table.location("claim", candidate.request_id)
            broken = Undecodable(candidate.broken, **where)
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
            held = _claim_to_fail(candidate.request_id, version)
            await self._fail(held, str(error), INVALID_REQUEST, ran=False)
            with self._table.decoder.located("claim"):
                raise

    async def update_progress(
        self,
        claim: Claim,
        progress: float | None = None,
        message: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        report = Progress(progress, message, details)
        update = writes.progress(claim, seq=claim.next_seq(), progress=report)
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
        version = settle_version(claim.version)
        now = self._clock.now()
        updates = (  # made one by one: the first nearly always fits
            writes.complete(
                claim,
                result=result,
                version=version,
                now=now,
                progress=progress,
                drop=drop,
                kept_for=self._table.retention.completed,
            )
            for drop in ((), writes.DROPPED_FOR_RESULT)
        )
        await write_first_that_fits(updates, lambda update: self._settle("complete", claim, update))

    async def fail(
        self,
        claim: Claim,
        error: str,
        code: str,
        *,
        error_class: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        require_text("error", error)
        require_text("code", code)
        await self._fail(claim, error, code, error_class=error_class, progress=progress)

    async def _fail(
        self,
        claim: Claim,
        error: str,
        code: str,
        *,
        error_class: str | None = None,
        ran: bool = True,
        progress: Progress | None = None,
    ) -> None:
        version = settle_version(claim.version)
        now = self._clock.now()
        updates = (
            writes.fail(
                claim,
                error=error,
                code=ITEM_TOO_LARGE if drop else code,
                version=version,
                now=now,
                error_class=error_class,
                ran=ran,
                drop=drop,
                progress=progress,
                kept_for=self._table.retention.failed,
            )
            for drop in writes.ERROR_SPACE_STEPS
        )
        await write_first_that_fits(updates, lambda update: self._settle("fail", claim, update))

    async def retry(
        self,
        claim: Claim,
        after: timedelta,
        *,
        error: str | None = None,
        code: str | None = None,
        error_class: str | None = None,
        counts: bool = True,
        rescued: Rescued | None = None,
        progress: Progress | None = None,
    ) -> None:
        if after < timedelta():
            raise ValidationError("after", f"must not be negative, but is {after}")
        version = settle_version(claim.version)
        try:
            update = writes.retry(
                claim,
                after=after,
                error=error,
                code=code,
                error_class=error_class,
                counts=counts,
                version=version,
                now=self._clock.now(),
                rescued=rescued,
                progress=progress,
            )
        except OverflowError as overflow:
            raise ValidationError("after", f"{after} from now is after the year 9999") from overflow
        await self._settle("retry", claim, update)

    async def release(self, claim: Claim, *, progress: Progress | None = None) -> None:
        version = settle_version(claim.version)
        update = writes.release(claim, version=version, now=self._clock.now(), progress=progress)
        await self._settle("release", claim, update)

    async def rescue(
        self, seen: Candidate, *, error: str, code: str, loss: WorkerLoss | None = None
    ) -> RequestStatus:
        item = await self._table.get_item("rescue", seen.request_id)
        if not _is_running_as_seen(item, seen):
            raise self._changed("rescue", seen.request_id)
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
                kept_for=self._table.retention.failed,
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
        """Fail a request that cannot run, in one write, if it has not changed since `seen`."""
        version = new_id(self._rng)
        now = self._clock.now()
        updates = [
            writes.give_up(
                seen,
                error=error,
                code=code,
                version=version,
                now=now,
                drop=drop,
                kept_for=self._table.retention.failed,
            )
            for drop in writes.ERROR_SPACE_STEPS
        ]
        await write_first_that_fits(updates, lambda update: self._write_as_seen(seen, update))

    async def _write_as_seen(self, seen: Candidate, update: Update) -> Item:
        """Write a claim or a rescue, and return the item after it.

        Raises NotFound; RequestNotPending; ConcurrentModification.
        """
        try:
            return await update_with_space(self._engine, update)
        except ConditionFailed as failed:
            operation = "claim" if seen.status in WAITING else "rescue"
            if failed.old is None:
                raise self._table.not_found(operation, seen.request_id) from None
            if has_version(failed.old, update.sets["Version"]["S"]):  # VERSION-2
                return failed.old
            status = codec.raw_text(failed.old, "Status")
            if seen.status in WAITING and status not in WAITING:
                raise self._table.not_pending(operation, seen.request_id, status) from None
            raise self._changed(operation, seen.request_id) from None

    async def _write_held(self, operation: str, claim: Claim, update: Update) -> None:
        """Write progress or a checkpoint. Raises ClaimLost or Cancelled."""
        try:
            await update_with_space(self._engine, update, claim)
        except ConditionFailed as failed:
            # FENCE-2: if the claim still holds, this write or a newer one is stored.
            if not _is_held(claim, failed.old):
                raise self._lost(operation, claim, failed.old) from None

    async def _settle(self, operation: str, claim: Claim, update: Update) -> None:
        """Write an outcome. Raises ClaimLost or Cancelled."""
        try:
            await update_with_space(self._engine, update, claim)
        except ConditionFailed as failed:
            if not _is_written(failed.old, update):
                raise self._lost(operation, claim, failed.old) from None

    def _lost(self, operation: str, claim: Claim, old: Item | None) -> ClaimLost:
        where = self._table.location(operation, claim.request_id)
        if old is None:
            return ClaimLost("the request no longer exists", **where)
        status = codec.raw_text(old, "Status")
        if status == RequestStatus.CANCELLED:
            return Cancelled("the request was cancelled", status=status, **where)
        return ClaimLost(f"another process made the request {status}", status=status, **where)

    def _changed(self, operation: str, request_id: str) -> ConcurrentModification:
        where = self._table.location(operation, request_id)
        return ConcurrentModification("the request has changed since it was read", **where)


def _is_running_as_seen(item: Item, seen: Candidate) -> bool:
    return item.get("Version") == seen.seen_version and (
        codec.raw_text(item, "Status") == seen.status == RequestStatus.PROCESSING
    )


def _is_held(claim: Claim, item: Item | None) -> bool:
    return (
        item is not None
        and has_version(item, claim.version)
        and codec.raw_text(item, "Status") == RequestStatus.PROCESSING
    )


def _is_written(item: Item | None, outcome: Update) -> bool:
    """Return whether the item has this outcome. Every outcome of a claim has the same Version.

    VERSION-2: an outcome that is not ours means that the claim is lost.
    """
    return (
        item is not None
        and has_version(item, outcome.sets["Version"]["S"])
        and item["Status"] == outcome.sets["Status"]
    )


def _claim_to_fail(request_id: str, version: str) -> Claim:
    """Return a claim of a request that cannot be decoded. It can only be used to fail it."""
    return Claim(request=AsyncRequest(action="unknown", request_id=request_id), version=version)
