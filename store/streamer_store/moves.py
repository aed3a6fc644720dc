"""Moves by operators: cancel, redrive, and update_status over both.

Each looks first, then writes under the Version seen, and looks again when that has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streamer_store import codec, writes
from streamer_store.claims import Claims, carries
from streamer_store.clock import Clock, new_id
from streamer_store.engine import ConditionFailed, Engine, Update
from streamer_store.errors import (
    ConcurrentModification,
    NotFound,
)
from streamer_store.models import AsyncRequest, known_status, require_text
from streamer_store.protocols import WorkerRegistry
from streamer_store.schema import REQUESTS
from streamer_store.transitions import TERMINAL, WAITING, RequestStatus, sources
from streamer_store.values import Item

if TYPE_CHECKING:
    import random

_LOOKS = 10


class Moves(Claims):
    def __init__(
        self, *, engine: Engine, workers: WorkerRegistry, clock: Clock, rng: random.Random
    ) -> None:
        super().__init__(engine=engine, clock=clock, rng=rng)
        self._workers = workers

    async def cancel(self, request_id: str) -> AsyncRequest:
        before = sources(RequestStatus.CANCELLED)
        return self._read("cancel", await self._cancel("cancel", request_id, before, None))

    async def redrive(self, request_id: str) -> AsyncRequest:
        return self._read("redrive", await self._redrive("redrive", request_id, None))

    async def update_status(
        self, request_id: str, status: RequestStatus, message: str | None = None
    ) -> AsyncRequest:
        operation = "update_status"
        match known_status(status):
            case RequestStatus.CANCELLED:
                item = await self._cancel(operation, request_id, WAITING, message)
            case RequestStatus.PENDING:
                item = await self._redrive(operation, request_id, message)
            case wanted:
                require_text("request_id", request_id)
                seen = codec.raw_text(await self._engine.get(REQUESTS, request_id) or {}, "Status")
                message = f"only the holder of a claim moves a request to {wanted}"
                raise self._not_pending(operation, request_id, seen, message)
        return self._read(operation, item)

    async def _cancel(
        self,
        operation: str,
        request_id: str,
        before: frozenset[RequestStatus],
        message: str | None,
    ) -> Item:
        def update(seen: Item) -> Update:
            version = seen.get("Version", {}).get("S")
            fresh = writes.cancel_version(version) if version else new_id(self._rng)
            return writes.cancel(seen, version=fresh, message=message, now=self._clock.now())

        item = await self._operate(operation, request_id, before, RequestStatus.CANCELLED, update)
        worker_id = codec.raw_text(item, "WorkerID")
        if worker_id:
            await self._workers.request_cancel(worker_id, codec.raw_text(item, "Version"))
        return item

    async def _redrive(self, operation: str, request_id: str, message: str | None) -> Item:
        version = new_id(self._rng)

        def update(seen: Item) -> Update:
            return writes.redrive(seen, version=version, message=message, now=self._clock.now())

        before = sources(RequestStatus.PENDING) & TERMINAL
        return await self._operate(operation, request_id, before, None, update)

    async def _operate(
        self,
        operation: str,
        request_id: str,
        before: frozenset[RequestStatus],
        done: RequestStatus | None,
        update: Callable[[Item], Update],
    ) -> Item:
        """Look, then write under what was seen, until that holds; `done` needs no write."""
        where = self._at(operation, request_id)
        seen = await self._look(request_id, operation)
        for _ in range(_LOOKS):
            status = codec.raw_text(seen, "Status")
            if done is not None and status == done:
                return seen
            if status not in {each.value for each in before}:
                raise self._not_pending(operation, request_id, status)
            write = update(seen)
            try:
                return await self._engine.update(write)
            except ConditionFailed as failed:
                if failed.old is None:
                    raise NotFound("no such request", **where) from None
                ours = write.sets["Version"]["S"]
                # Our write, with its answer lost; or that, cancelled since: let the cancel stand.
                if carries(failed.old, ours) or carries(failed.old, writes.cancel_version(ours)):
                    return failed.old
                seen = failed.old
        raise ConcurrentModification("the request keeps changing", **where)

    async def _look(self, request_id: str, operation: str) -> Item:
        require_text("request_id", request_id)
        item = await self._engine.get(REQUESTS, request_id)
        if item is None:
            raise NotFound("no such request", **self._at(operation, request_id))
        return item
