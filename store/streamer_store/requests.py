"""The request queue, over any engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from streamer_store import codec, writes
from streamer_store.claims import carries
from streamer_store.clock import Clock, new_id
from streamer_store.engine import ConditionFailed, Engine, Query
from streamer_store.errors import (
    AlreadyExists,
    ConcurrentModification,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    Undecodable,
    ValidationError,
    ungrouped,
)
from streamer_store.models import (
    AsyncRequest,
    Candidate,
    Claim,
    known_status,
    require_limit,
    require_text,
    require_time,
)
from streamer_store.moves import Moves
from streamer_store.protocols import CandidatePage, Depth, WorkerRegistry
from streamer_store.schema import REQUEST_TTL, REQUESTS, Index
from streamer_store.times import epoch, parse_time, text_after, text_before
from streamer_store.transitions import RequestStatus
from streamer_store.values import MAX_ITEM_BYTES, Item, item_size

if TYPE_CHECKING:
    import random
    from datetime import datetime

HEADROOM_BYTES = 8 * 1024
_LARGEST = MAX_ITEM_BYTES - HEADROOM_BYTES
_PAGE = 100
_PUTS_AT_ONCE = 25
_BY_CONNECTION = REQUESTS.index("ConnectionIndex")
_BY_STATUS = REQUESTS.index("StatusIndex")


class RequestStore(Moves):
    """Implements RequestQueue. `report` hears of items that cannot be decoded."""

    def __init__(
        self,
        *,
        engine: Engine,
        workers: WorkerRegistry,
        clock: Clock,
        rng: random.Random,
        report: Callable[[Undecodable], None],
    ) -> None:
        super().__init__(engine=engine, workers=workers, clock=clock, rng=rng)
        self._report = report

    async def enqueue(self, request: AsyncRequest) -> AsyncRequest:
        record = self._complete_record(request)
        item = self._measured(record)
        # An id drawn here is nobody else's: taken, then, means that a first copy landed.
        if not await self._put_new(item, record) and request.request_id:
            where = self._at("enqueue", record.request_id)
            raise AlreadyExists("a request has this id", **where)
        return record

    async def enqueue_many(self, requests: Iterable[AsyncRequest]) -> list[AsyncRequest]:
        given = list(requests)
        records = [self._complete_record(request) for request in given]
        items = [self._measured(record) for record in records]
        # Not BatchWriteItem: it has no conditions, and a copy of it that lands late would make
        # requests PENDING again that have been claimed, or completed, meanwhile.
        first: dict[str, tuple[Item, AsyncRequest]] = {}
        for item, record in zip(items, records, strict=True):
            first.setdefault(record.request_id, (item, record))
        stored: dict[str, AsyncRequest] = {}
        limiter = anyio.CapacityLimiter(_PUTS_AT_ONCE)

        async def put(item: Item, record: AsyncRequest) -> None:
            async with limiter:
                if await self._put_new(item, record):
                    stored[record.request_id] = record

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for each in first.values():
                    tasks.start_soon(put, *each)
        taken = [
            record.request_id
            for request, record in zip(given, records, strict=True)
            if request.request_id and stored.get(record.request_id) is not record
        ]
        if taken:
            raise AlreadyExists("these ids are taken", **self._at("enqueue_many", ",".join(taken)))
        return records

    async def get(self, request_id: str) -> AsyncRequest:
        return self._read("get", await self._look(request_id, "get"))

    async def get_many(self, request_ids: Iterable[str]) -> dict[str, AsyncRequest]:
        keys = list(dict.fromkeys(request_ids))
        for key in keys:
            require_text("request_id", key)
        found = {}
        for item in await self._engine.get_many(REQUESTS, keys):
            record = self._decoded(item)
            if record is not None:
                found[record.request_id] = record
        return {key: found[key] for key in keys if key in found}

    async def delete(self, request_id: str) -> None:
        require_text("request_id", request_id)
        await self._engine.delete_many(REQUESTS, [request_id])

    async def entries(
        self,
        status: RequestStatus,
        *,
        limit: int,
        cursor: Item | None = None,
        since: datetime | None = None,
        newest_first: bool = False,
    ) -> CandidatePage:
        if since is not None:
            require_time("since", since)
        page = await self._engine.query(
            Query(
                table=REQUESTS,
                index=_BY_STATUS,
                value=known_status(status).value,
                at_least=None if since is None else {"S": text_before(since)},
                ascending=not newest_first,
                limit=require_limit(limit),
                exclusive_start_key=cursor,
            )
        )
        found = [codec.candidate(item) for item in page.items]
        if since is not None:
            found = [each for each in found if each.created_at is None or each.created_at >= since]
        return CandidatePage(candidates=found, cursor=page.last_evaluated_key)

    async def depth(self, status: RequestStatus, *, limit: int) -> Depth:
        value = known_status(status).value
        require_limit(limit)
        count, cursor = 0, None
        oldest = _Oldest()
        while True:
            page = await self._engine.query(
                Query(
                    table=REQUESTS,
                    index=_BY_STATUS,
                    value=value,
                    count_only=oldest.is_final,
                    attributes=() if oldest.is_final else ("CreatedAt",),
                    limit=limit - count,
                    exclusive_start_key=cursor,
                )
            )
            oldest.add(page.items)
            count, cursor = count + page.count, page.last_evaluated_key
            if cursor is None or count >= limit:
                break
        return Depth(count=count, more=cursor is not None, oldest=oldest.moment)

    async def dequeue(self, limit: int) -> list[Claim]:
        require_limit(limit)
        claims: list[Claim] = []
        for status in (RequestStatus.PENDING, RequestStatus.RETRYING):
            async with aclosing(self._candidates(status)) as candidates:
                async for candidate in candidates:
                    if len(claims) == limit:
                        return claims
                    claim = await self._claim_if_possible(candidate)
                    if claim is not None:
                        claims.append(claim)
        return claims

    async def get_by_connection(
        self, connection_id: str, *, limit: int | None = None
    ) -> AsyncIterator[AsyncRequest]:
        require_text("connection_id", connection_id)
        async for record in self._listed(_BY_CONNECTION, connection_id, limit, ascending=False):
            if record.connection_id == connection_id:
                yield record

    async def get_by_status(
        self, status: RequestStatus, *, limit: int | None = None
    ) -> AsyncIterator[AsyncRequest]:
        value = known_status(status).value
        async for record in self._listed(_BY_STATUS, value, limit, ascending=True):
            yield record

    async def _candidates(self, status: RequestStatus) -> AsyncGenerator[Candidate, None]:
        cursor = None
        while True:
            page = await self.entries(status, limit=_PAGE, cursor=cursor)
            for candidate in page.candidates:
                yield candidate
            cursor = page.cursor
            if cursor is None:
                return

    async def _claim_if_possible(self, candidate: Candidate) -> Claim | None:
        try:
            return await self.claim(candidate)
        except Undecodable as error:
            self._report(error)
        except (RequestNotPending, ConcurrentModification, NotFound, ItemTooLarge):
            pass
        return None

    async def _put_new(self, item: Item, record: AsyncRequest) -> bool:
        try:
            await self._engine.put(writes.enqueue(item))
        except ConditionFailed as failed:
            return failed.old is not None and carries(failed.old, record.version or "")
        return True

    async def _listed(
        self, index: Index, value: str, limit: int | None, *, ascending: bool
    ) -> AsyncIterator[AsyncRequest]:
        """Yield whole records: slim indexes carry ids only, and what they carry may be old."""
        left = None if limit is None else require_limit(limit)
        after = None
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            query = Query(
                table=REQUESTS,
                index=index,
                value=value,
                ascending=ascending,
                limit=size,
                exclusive_start_key=after,
            )
            page = await self._engine.query(query)
            keys = [codec.raw_text(item, "RequestID") for item in page.items]
            for record in (await self.get_many(keys)).values():
                if index is _BY_STATUS and record.status.value != value:
                    continue
                yield record
                left = None if left is None else left - 1
            after = page.last_evaluated_key
            if after is None:
                return

    def _complete_record(self, request: AsyncRequest) -> AsyncRequest:
        if request.status is not RequestStatus.PENDING:
            raise ValidationError("status", "a new request is PENDING")
        now = self._clock.now()
        return replace(
            request,
            request_id=request.request_id or new_id(self._rng),
            created_at=request.created_at or now,
            ttl=request.ttl if request.ttl is not None else epoch(now, REQUEST_TTL),
            version=new_id(self._rng),
        )

    def _measured(self, record: AsyncRequest) -> Item:
        item = codec.request_item(record)
        size = item_size(item)
        if size > _LARGEST:
            raise ItemTooLarge(
                "payload",
                f"the item would be {size} bytes, the limit is {_LARGEST}",
                size=size,
                **self._at("enqueue", record.request_id),
            )
        return item

    def _decoded(self, item: Item) -> AsyncRequest | None:
        try:
            return codec.request(item)
        except Undecodable as error:
            error.table = self._table
            self._report(error)
            return None


class _Oldest:
    """The oldest CreatedAt of a status, from pages of entries in the order of their text.

    Text with an offset sorts up to a day away from its moment, so the first entry need not be
    the oldest. `is_final`: what follows cannot be older.
    """

    def __init__(self) -> None:
        self.moment: datetime | None = None
        self.is_final = False

    def add(self, items: Iterable[Item]) -> None:
        text = ""
        for item in items:
            text = codec.raw_text(item, "CreatedAt")
            with suppress(ValueError):  # it is reported by whoever claims the request
                moment = parse_time(text)
                if moment is not None and (self.moment is None or moment < self.moment):
                    self.moment = moment
        self.is_final = self.is_final or (
            self.moment is not None and text > text_after(self.moment)
        )
