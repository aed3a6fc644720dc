"""Bulk operations on requests.

What an earlier call has done stays done: after an error, call again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final

from streamer_store import bulk_writes, codec
from streamer_store.bulk import Bulk, Items, numbered
from streamer_store.bulk_changes import BulkChanges
from streamer_store.bulk_results import BulkSummary, OnResult
from streamer_store.engine import Query, paginate
from streamer_store.errors import StoreError, ValidationError
from streamer_store.in_order import InOrder
from streamer_store.models import AsyncRequest
from streamer_store.new_request import NewRequest
from streamer_store.operator_actions import Change, OperatorActions
from streamer_store.request_producer import RequestProducer
from streamer_store.request_table import RequestTable
from streamer_store.schema import REQUESTS
from streamer_store.transitions import TERMINAL, WAITING, RequestStatus, sources
from streamer_store.unique_keys import OnConflict, require_on_conflict
from streamer_store.validation import require_status, require_text
from streamer_store.values import Item, item_size
from streamer_store.write_units import write_units

if TYPE_CHECKING:
    import random

_CANCELLABLE: Final = frozenset(sources(RequestStatus.CANCELLED))
_REDRIVABLE: Final = sources(RequestStatus.PENDING) & TERMINAL
_BY_CONNECTION: Final = REQUESTS.index("ConnectionIndex")


class BulkRequestActions:
    """Implements BulkRequests."""

    def __init__(
        self,
        *,
        table: RequestTable,
        producer: RequestProducer,
        actions: OperatorActions,
        changes: BulkChanges,
        rng: random.Random,
    ) -> None:
        self._table = table
        self._engine = table.engine
        self._producer = producer
        self._actions = actions
        self._changes = changes
        self._rng = rng

    async def enqueue_many(
        self,
        requests: Items[AsyncRequest],
        *,
        on_result: OnResult[AsyncRequest] | None = None,
        max_write_units: float | None = None,
        beyond_a_year: bool = False,
        on_conflict: OnConflict = "keep",
    ) -> BulkSummary[AsyncRequest]:
        require_on_conflict(on_conflict)
        bulk = Bulk("enqueue_many", on_result, max_write_units, rng=self._rng)
        in_order = InOrder()

        async def prepared() -> AsyncGenerator[NewRequest | StoreError]:
            async with aclosing(numbered(requests)) as entries:
                async for _, request in entries:
                    yield self._prepare(request, beyond_a_year=beyond_a_year)

        async def enqueue(position: int, new: NewRequest | StoreError) -> None:
            if isinstance(new, StoreError):
                bulk.refuse(position, new.key, new)
                return
            key = new.record.request_id
            async with in_order.of(key):  # the last one of a unique key is the newest
                if bulk.limiter.is_limited:
                    await bulk.limiter.spend(write_units(REQUESTS, None, new.item))
                store = partial(self._producer.store, bulk.operation, new, on_conflict)
                stored = await bulk.try_item(position, key, store)
            if stored:
                bulk.finish(position, key, stored)

        # Not BatchWriteItem: it has no conditions. A copy of it that arrives late would make
        # requests PENDING again that have been claimed or completed since.
        async with aclosing(prepared()) as news:
            return await bulk.run(
                news,
                lambda chunk: bulk.each(chunk, enqueue),
                size_of=lambda new: 0 if isinstance(new, StoreError) else item_size(new.item),
            )

    async def cancel_many(
        self,
        request_ids: Items[str],
        *,
        statuses: Collection[RequestStatus] = _CANCELLABLE,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        bulk = Bulk("cancel_many", on_result, max_write_units, rng=self._rng)
        allowed = _CANCELLABLE.intersection(map(require_status, statuses))
        change_of = partial(
            self._actions.cancellation, bulk.operation, allowed=allowed, returning=False
        )
        return await self._changes.change(bulk, request_ids, change_of)

    async def redrive_many(
        self,
        request_ids: Items[str],
        *,
        statuses: Collection[RequestStatus] = _REDRIVABLE,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        bulk = Bulk("redrive_many", on_result, max_write_units, rng=self._rng)
        allowed = _REDRIVABLE.intersection(map(require_status, statuses))
        change_of = partial(
            self._actions.redriving, bulk.operation, allowed=allowed, returning=False
        )
        return await self._changes.change(bulk, request_ids, change_of)

    async def update_status_many(
        self,
        request_ids: Items[str],
        status: RequestStatus,
        message: str | None = None,
        *,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        bulk = Bulk("update_status_many", on_result, max_write_units, rng=self._rng)

        def change_of(request_id: str) -> Change:
            change = self._actions.status_change(
                bulk.operation, request_id, status, message, returning=False
            )
            if change is None:
                text = f"only a worker makes requests {status}; use CANCELLED or PENDING"
                raise ValidationError("status", text, operation=bulk.operation)
            return change

        change_of("")  # refuses the status before anything is read
        return await self._changes.change(bulk, request_ids, change_of)

    async def cancel_by_connection(
        self,
        connection_id: str,
        *,
        running: bool = True,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        bulk = Bulk("cancel_by_connection", on_result, max_write_units, rng=self._rng)
        allowed = _CANCELLABLE if running else frozenset(WAITING)
        change_of = partial(
            self._actions.cancellation, bulk.operation, allowed=allowed, returning=False
        )

        def is_selected(item: Item) -> bool:
            is_own = codec.raw_text(item, "ConnectionID") == connection_id
            return is_own and codec.raw_text(item, "Status") in allowed

        async with aclosing(self._ids_by_connection(connection_id)) as ids:
            return await self._changes.change(bulk, ids, change_of, is_selected)

    async def delete_many(
        self,
        request_ids: Items[str],
        *,
        statuses: Collection[RequestStatus] | None = None,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        bulk = Bulk("delete_many", on_result, max_write_units, rng=self._rng)
        if statuses is None:
            return await bulk_writes.delete_many(
                bulk, self._engine, REQUESTS, "request_id", request_ids
            )
        return await self._changes.delete(bulk, request_ids, statuses)

    async def delete_by_connection(
        self,
        connection_id: str,
        *,
        statuses: Collection[RequestStatus] = TERMINAL,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        bulk = Bulk("delete_by_connection", on_result, max_write_units, rng=self._rng)
        allowed = frozenset(map(require_status, statuses))

        def is_selected(item: Item) -> bool:
            is_own = codec.raw_text(item, "ConnectionID") == connection_id
            return is_own and codec.raw_text(item, "Status") in allowed

        async with aclosing(self._ids_by_connection(connection_id)) as ids:
            return await self._changes.delete(bulk, ids, allowed, is_selected)

    def _prepare(self, request: AsyncRequest, *, beyond_a_year: bool) -> NewRequest | StoreError:
        if not isinstance(request, AsyncRequest):
            name = type(request).__name__
            return ValidationError("requests", f"must be of AsyncRequest, not {name}")
        try:
            return self._producer.prepare(request, beyond_a_year=beyond_a_year)
        except ValidationError as error:
            return error

    async def _ids_by_connection(self, connection_id: str) -> AsyncGenerator[str]:
        """Yield the ids of a connection's requests, from an index, which lags."""
        require_text("connection_id", connection_id)
        query = Query(table=REQUESTS, index=_BY_CONNECTION, value=connection_id, ascending=False)
        async with aclosing(paginate(self._engine.query, query)) as pages:
            async for page in pages:
                for item in page.items:
                    yield codec.raw_text(item, "RequestID")
