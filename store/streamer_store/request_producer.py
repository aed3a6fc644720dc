"""Storing new requests, and deleting requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

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
)
from streamer_store.lanes import place_of
from streamer_store.models import AsyncRequest, EventType
from streamer_store.new_request import NewRequest
from streamer_store.request_table import RequestTable
from streamer_store.reserved_ids import CONTROL_PREFIX, require_own_id
from streamer_store.run_times import as_waiting, run_time
from streamer_store.schema import CONNECTIONS, REQUESTS, SUBSCRIPTIONS
from streamer_store.subscriptions import new_subscription
from streamer_store.transitions import RequestStatus
from streamer_store.unique_keys import Enqueued, OnConflict, require_on_conflict
from streamer_store.unique_producer import UniqueProducer
from streamer_store.unique_requests import id_of_key, require_no_key, with_key
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
_IDS_TAKEN: Final = "requests with these ids exist; choose other ids"


class RequestProducer:
    """The methods of RequestQueue that create and delete requests."""

    def __init__(self, *, table: RequestTable, clock: Clock, rng: random.Random) -> None:
        self._table = table
        self._engine = table.engine
        self._clock = clock
        self._rng = rng
        self._unique = UniqueProducer(table=table, clock=clock, encode=self._encode)

    async def enqueue(
        self,
        request: AsyncRequest,
        *,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        beyond_a_year: bool = False,
        unique_key: str | None = None,
        unique_for: timedelta | None = None,
        on_conflict: OnConflict = "keep",
    ) -> AsyncRequest:
        require_on_conflict(on_conflict)
        later = with_key(self._later(request, run_at, delay), unique_key, unique_for)
        if later.unique_key is None and on_conflict != "keep":
            raise ValidationError("on_conflict", "needs a `unique_key`")
        new = replace(self.prepare(later, beyond_a_year=beyond_a_year), delay=delay)
        return await self.store("enqueue", new, on_conflict)

    async def enqueue_all(
        self, requests: Iterable[AsyncRequest], *, beyond_a_year: bool = False
    ) -> list[AsyncRequest]:
        given = list(requests)
        for request in given:
            require_no_key(request, "enqueue_all")
        records = [self._with_defaults(request, beyond_a_year=beyond_a_year) for request in given]
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
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        beyond_a_year: bool = False,
    ) -> AsyncRequest:
        require_no_key(request, "enqueue_with_subscriptions")
        later = self._later(request, run_at, delay)
        record = self._with_defaults(later, beyond_a_year=beyond_a_year)
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

    def prepare(self, request: AsyncRequest, *, beyond_a_year: bool = False) -> NewRequest:
        """Return the request as it will be stored. Raises ItemTooLarge; ValidationError."""
        record = self._with_defaults(request, beyond_a_year=beyond_a_year)
        is_drawn = not request.request_id
        return NewRequest(record=record, item=self._encode(record), is_drawn=is_drawn)

    def prepare_own(self, request: AsyncRequest) -> NewRequest:
        """Return a request that this package makes, whose id may be a reserved one.

        Raises ItemTooLarge; ValidationError.
        """
        record = self._with_defaults(request, beyond_a_year=False, is_own=True)
        return NewRequest(record=record, item=self._encode(record), is_drawn=False)

    async def store(
        self, operation: str, new: NewRequest, on_conflict: OnConflict = "keep"
    ) -> AsyncRequest:
        """Store a request that was prepared, and return it. Raises AlreadyExists.

        `on_conflict`: what to do if its unique key has a request.
        """
        if new.record.unique_key is not None:
            return await self._unique.store(operation, new, on_conflict)
        try:
            await self._engine.put(writes.enqueue(new.item))
        except ConditionFailed as failed:
            # An id that was drawn here is unique. If it is taken, a first copy of this put was
            # stored and its answer was lost.
            if not new.is_drawn and not _is_own(failed.old, new.record):
                where = self._table.location(operation, new.record.request_id)
                message = "a request with this id exists; choose another id"
                raise AlreadyExists(message, **where) from None
        return new.record

    async def delete(self, request_id: str) -> None:
        require_text("request_id", request_id)
        if not request_id.startswith(CONTROL_PREFIX):  # it is no request
            await self._engine.delete_many(REQUESTS, [request_id])

    def _later(
        self, request: AsyncRequest, run_at: datetime | None, delay: timedelta | None
    ) -> AsyncRequest:
        """Return the request with the time at which it may run."""
        moment = run_time(run_at, delay, now=self._clock.now())
        if moment is None:
            return request
        if request.retry_after is not None:
            raise ValidationError("retry_after", "is set already: give no `run_at` and no `delay`")
        return replace(request, retry_after=moment)

    def _with_defaults(
        self, request: AsyncRequest, *, beyond_a_year: bool, is_own: bool = False
    ) -> AsyncRequest:
        """Return the request with an id, a Version and the fields that the producer left out.

        `is_own`: whether this package made the request, so that its id may be a reserved one.
        """
        if not is_own:
            require_own_id("request_id", request.request_id)
        if request.status is not RequestStatus.PENDING:
            raise ValidationError("status", f"a new request must be PENDING, not {request.status}")
        now = self._clock.now()
        request_id = id_of_key(request) or request.request_id or new_id(self._rng)
        version = new_id(self._rng)
        new = replace(
            request,
            request_id=request_id,
            created_at=request.created_at or now,
            version=version,
            unique_run=None if request.unique_key is None else version,
            enqueued=Enqueued.CREATED,
        )
        return as_waiting(new, now=now, beyond_a_year=beyond_a_year)

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
