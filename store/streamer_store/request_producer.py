"""Storing new requests, and deleting requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from streamer_store import codec, writes
from streamer_store.clock import Clock, new_id
from streamer_store.conditions import Present
from streamer_store.engine import (
    MAX_TRANSACTION_PARTS,
    Check,
    ConditionFailed,
    Put,
    TransactionFailed,
    TransactionPart,
)
from streamer_store.errors import (
    AlreadyExists,
    ItemTooLarge,
    NotFound,
    ValidationError,
    ungrouped,
)
from streamer_store.lanes import Priority, place_of
from streamer_store.models import AsyncRequest, EventType
from streamer_store.request_table import RequestTable
from streamer_store.schema import CONNECTIONS, REQUEST_TTL, REQUESTS, SUBSCRIPTIONS
from streamer_store.subscriptions import new_subscription
from streamer_store.times import epoch
from streamer_store.transitions import RequestStatus
from streamer_store.validation import require_text
from streamer_store.values import MAX_ITEM_BYTES, Item, item_size
from streamer_store.versions import has_version

if TYPE_CHECKING:
    import random

HEADROOM_BYTES: Final = 8 * 1024
"""Bytes of an item that a new request leaves free, for the writes that follow."""
_MAX_NEW_ITEM_BYTES: Final = MAX_ITEM_BYTES - HEADROOM_BYTES
_MAX_TRANSACTION_BYTES: Final = 4 * 1024 * 1024
"""Bytes of all items of a transaction (API Reference, TransactWriteItems)."""
_CONCURRENT_PUTS: Final = 25
_IDS_TAKEN: Final = "requests with these ids exist; choose other ids"


class RequestProducer:
    """The methods of RequestQueue that create and delete requests."""

    def __init__(self, *, table: RequestTable, clock: Clock, rng: random.Random) -> None:
        self._table = table
        self._engine = table.engine
        self._clock = clock
        self._rng = rng

    async def enqueue(self, request: AsyncRequest) -> AsyncRequest:
        record = self._with_defaults(request)
        item = self._encode(record)
        # An id that was created here is unique. If it is taken, a first copy of this put was
        # stored and its answer was lost.
        if not await self._put_new(item, record) and request.request_id:
            where = self._table.location("enqueue", record.request_id)
            raise AlreadyExists("a request with this id exists; choose another id", **where)
        return record

    async def enqueue_many(self, requests: Iterable[AsyncRequest]) -> list[AsyncRequest]:
        requests = list(requests)
        records = [self._with_defaults(request) for request in requests]
        items = [self._encode(record) for record in records]
        # Not BatchWriteItem: it has no conditions. A copy of it that arrives late would make
        # requests PENDING again that have been claimed or completed since.
        first_by_id: dict[str, tuple[Item, AsyncRequest]] = {}
        for item, record in zip(items, records, strict=True):
            first_by_id.setdefault(record.request_id, (item, record))
        stored: dict[str, AsyncRequest] = {}
        limiter = anyio.CapacityLimiter(_CONCURRENT_PUTS)

        async def put(item: Item, record: AsyncRequest) -> None:
            async with limiter:
                if await self._put_new(item, record):
                    stored[record.request_id] = record

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for item, record in first_by_id.values():
                    tasks.start_soon(put, item, record)
        taken = [
            record.request_id
            for request, record in zip(requests, records, strict=True)
            if request.request_id and stored.get(record.request_id) is not record
        ]
        if taken:
            where = self._table.location("enqueue_many", ",".join(taken))
            raise AlreadyExists(_IDS_TAKEN, **where)
        return records

    async def enqueue_all(self, requests: Iterable[AsyncRequest]) -> list[AsyncRequest]:
        records = [self._with_defaults(request) for request in requests]
        _require_parts("requests", len(records))
        items = [self._encode(record) for record in records]
        size = sum(map(item_size, items))
        if size > _MAX_TRANSACTION_BYTES:
            raise ItemTooLarge(
                "requests",
                f"together they would be {size} bytes, the limit is {_MAX_TRANSACTION_BYTES}",
                size=size,
                **self._table.location("enqueue_all", ""),
            )
        puts = [writes.enqueue(item) for item in items]
        if len({record.request_id for record in records}) < len(records):
            raise ValidationError("requests", "two have the same id")
        if puts:
            await self._transact("enqueue_all", records, puts)
        return records

    async def enqueue_with_subscriptions(
        self,
        request: AsyncRequest,
        subscriptions: Mapping[str, Iterable[EventType]],
        *,
        require_connection: bool = True,
    ) -> AsyncRequest:
        record = self._with_defaults(request)
        now = self._clock.now()
        parts: list[TransactionPart] = [writes.enqueue(self._encode(record))]
        for connection_id, event_types in subscriptions.items():
            subscription = new_subscription(connection_id, record.request_id, event_types, now=now)
            parts.append(Put(table=SUBSCRIPTIONS, item=codec.subscription_item(subscription)))
        if require_connection:
            required = dict.fromkeys([record.connection_id, *subscriptions])
            parts += [
                Check(table=CONNECTIONS, key=connection_id, conditions=(Present("ConnectionID"),))
                for connection_id in required
                if connection_id
            ]
        _require_parts("subscriptions", len(parts))
        await self._transact("enqueue_with_subscriptions", [record], parts)
        return record

    async def _transact(
        self, operation: str, records: Sequence[AsyncRequest], parts: Sequence[TransactionPart]
    ) -> None:
        """Write all parts, of which the first are those of `records`, or none.

        Raises AlreadyExists, with the ids that are taken; NotFound for a connection.
        """
        try:
            await self._engine.transact(parts)
        except TransactionFailed as failed:
            taken = [place for place in failed.old if place < len(records)]
            if any(_is_own(failed.old[place], records[place]) for place in taken):
                return  # a first copy was stored, whole, and its answer was lost (VERSION-2)
            if taken:
                ids = ",".join(records[place].request_id for place in taken)
                where = self._table.location(operation, ids)
                raise AlreadyExists(_IDS_TAKEN, **where) from None
            part = parts[next(iter(failed.old))]
            name = self._engine.table_name(part.table)
            raise NotFound(
                "no such connection", operation=operation, table=name, key=part.key
            ) from None

    async def delete(self, request_id: str) -> None:
        require_text("request_id", request_id)
        await self._engine.delete_many(REQUESTS, [request_id])

    async def _put_new(self, item: Item, record: AsyncRequest) -> bool:
        """Store the item and return True, or return False if the id is taken."""
        try:
            await self._engine.put(writes.enqueue(item))
        except ConditionFailed as failed:
            return _is_own(failed.old, record)
        return True

    def _with_defaults(self, request: AsyncRequest) -> AsyncRequest:
        """Return the request with a Version and with the fields that the producer left out."""
        if request.status is not RequestStatus.PENDING:
            raise ValidationError("status", f"a new request must be PENDING, not {request.status}")
        now = self._clock.now()
        created_at = request.created_at or now
        low = request.priority is Priority.LOW
        return replace(
            request,
            request_id=request.request_id or new_id(self._rng),
            # As it would be released (see `wait_at_once`).
            status=RequestStatus.SCHEDULED if low else RequestStatus.PENDING,
            retry_after=created_at if low else request.retry_after,
            created_at=created_at,
            ttl=request.ttl if request.ttl is not None else epoch(now, REQUEST_TTL),
            version=new_id(self._rng),
        )

    def _encode(self, record: AsyncRequest) -> Item:
        """Return the item. Raises ItemTooLarge; ValidationError."""
        place = place_of(
            record.status,
            record.priority,
            created_at=record.created_at,
            retry_after=record.retry_after,
        )
        item = {**codec.request_item(record), **(place.values() if place else {})}
        size = item_size(item)
        if size > _MAX_NEW_ITEM_BYTES:
            raise ItemTooLarge(
                "payload",
                f"the item would be {size} bytes, the limit is {_MAX_NEW_ITEM_BYTES}. "
                "Store large data elsewhere",
                size=size,
                **self._table.location("enqueue", record.request_id),
            )
        return item


def _is_own(item: Item | None, record: AsyncRequest) -> bool:
    """Return whether the item is a first copy of the record, whose answer was lost (VERSION-2)."""
    return item is not None and has_version(item, record.version or "")


def _require_parts(field: str, number: int) -> None:
    """Raise ValidationError for more parts than a transaction takes."""
    if number > MAX_TRANSACTION_PARTS:
        raise ValidationError(
            field,
            f"they need {number} parts of a transaction, and it takes {MAX_TRANSACTION_PARTS}",
        )
