"""What an operator can do to a request: `cancel`, `redrive` and `update_status`.

Each action reads the request and writes on the condition that its Version has not changed. If
the Version has changed, the action starts again with the new item.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from streamer_store import codec, operator_writes
from streamer_store.clock import Clock, new_id
from streamer_store.engine import ConditionFailed, Update
from streamer_store.errors import ConcurrentModification
from streamer_store.models import AsyncRequest
from streamer_store.protocols import WorkerRegistry
from streamer_store.request_table import RequestTable
from streamer_store.schema import REQUESTS
from streamer_store.transitions import TERMINAL, WAITING, RequestStatus, sources
from streamer_store.validation import require_status, require_text
from streamer_store.values import Item
from streamer_store.versions import cancel_version, has_version

if TYPE_CHECKING:
    import random

_MAX_TRIES: Final = 10


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
        allowed = sources(RequestStatus.CANCELLED)
        item = await self._cancel("cancel", request_id, allowed, None)
        return self._table.decoder.decode_one("cancel", item)

    async def redrive(self, request_id: str) -> AsyncRequest:
        item = await self._redrive("redrive", request_id, None)
        return self._table.decoder.decode_one("redrive", item)

    async def update_status(
        self, request_id: str, status: RequestStatus, message: str | None = None
    ) -> AsyncRequest:
        operation = "update_status"
        match require_status(status):
            case RequestStatus.CANCELLED:
                item = await self._cancel(operation, request_id, WAITING, message)
            case RequestStatus.PENDING:
                item = await self._redrive(operation, request_id, message)
            case wanted:
                require_text("request_id", request_id)
                seen = codec.raw_text(await self._engine.get(REQUESTS, request_id) or {}, "Status")
                message = f"a request becomes {wanted} only by its worker; use CANCELLED or PENDING"
                raise self._table.not_pending(operation, request_id, seen, message)
        return self._table.decoder.decode_one(operation, item)

    async def _cancel(
        self,
        operation: str,
        request_id: str,
        allowed: Collection[RequestStatus],
        message: str | None,
    ) -> Item:
        def update(seen: Item) -> Update:
            seen_version = seen.get("Version", {}).get("S")
            version = cancel_version(seen_version) if seen_version else new_id(self._rng)
            return operator_writes.cancel(
                seen,
                version=version,
                message=message,
                now=self._clock.now(),
                kept_for=self._table.retention.cancelled,
            )

        item = await self._write_as_seen(
            operation, request_id, update, allowed=allowed, done=RequestStatus.CANCELLED
        )
        worker_id = codec.raw_text(item, "WorkerID")
        if worker_id:
            await self._workers.request_cancel(worker_id, codec.raw_text(item, "Version"))
        return item

    async def _redrive(self, operation: str, request_id: str, message: str | None) -> Item:
        version = new_id(self._rng)

        def update(seen: Item) -> Update:
            return operator_writes.redrive(
                seen, version=version, message=message, now=self._clock.now()
            )

        allowed = sources(RequestStatus.PENDING) & TERMINAL
        return await self._write_as_seen(operation, request_id, update, allowed=allowed)

    async def _write_as_seen(
        self,
        operation: str,
        request_id: str,
        update: Callable[[Item], Update],
        *,
        allowed: Collection[RequestStatus],
        done: RequestStatus | None = None,
    ) -> Item:
        """Read the request and write `update` of the item seen, until its condition holds.

        - `allowed`: the statuses that the request may have.
        - `done`: the status in which nothing has to be written. None: there is none.

        Returns the item after the write.
        """
        seen = await self._table.get_item(operation, request_id)
        for _ in range(_MAX_TRIES):
            status = codec.raw_text(seen, "Status")
            if done is not None and status == done:
                return seen
            if status not in allowed:
                raise self._table.not_pending(operation, request_id, status)
            write = update(seen)
            try:
                return await self._engine.update(write)
            except ConditionFailed as failed:
                if failed.old is None:
                    raise self._table.not_found(operation, request_id) from None
                if _took_effect(failed.old, write):
                    return failed.old
                seen = failed.old
        raise ConcurrentModification(
            "the request keeps changing", **self._table.location(operation, request_id)
        )


def _took_effect(item: Item, write: Update) -> bool:
    """Return whether an earlier copy of the write took effect and its answer was lost (VERSION-2).

    If the request was cancelled after that write, the cancellation is kept.
    """
    version = write.sets["Version"]["S"]
    return has_version(item, version) or has_version(item, cancel_version(version))
