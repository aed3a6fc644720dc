"""The store of subscriptions over any engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from streamer_store import bulk_writes, codec
from streamer_store.bulk import Bulk, Items
from streamer_store.bulk_results import BulkSummary, OnResult
from streamer_store.clock import Clock
from streamer_store.decoding import ItemDecoder, Report
from streamer_store.engine import Delete, Engine, Query, Scan, Update, paginate
from streamer_store.errors import ValidationError
from streamer_store.models import EventType, Subscription
from streamer_store.schema import OTHER_TTL, SUBSCRIPTIONS, Index
from streamer_store.times import epoch
from streamer_store.validation import require_text
from streamer_store.values import Item

if TYPE_CHECKING:
    import random

_BY_CONNECTION: Final = SUBSCRIPTIONS.index("ConnectionIndex")
_BY_REQUEST: Final = SUBSCRIPTIONS.index("RequestIndex")


class SubscriptionTable:
    """Implements SubscriptionStore.

    `report`: called with the error of each item that cannot be decoded and is left out.
    """

    def __init__(self, *, engine: Engine, clock: Clock, rng: random.Random, report: Report) -> None:
        self._engine = engine
        self._rng = rng
        self._clock = clock
        self._decoder: ItemDecoder[Subscription] = ItemDecoder(
            codec.subscription, table=engine.table_name(SUBSCRIPTIONS), report=report
        )

    async def subscribe(
        self,
        connection_id: str,
        request_id: str,
        event_types: Iterable[EventType] = EventType,
    ) -> Subscription:
        record = new_subscription(connection_id, request_id, event_types, now=self._clock.now())
        item = dict(codec.subscription_item(record))
        del item["SubscriptionID"]
        created = item.pop("CreatedAt")
        update = Update(
            table=SUBSCRIPTIONS,
            key=record.subscription_id,
            sets=item,
            if_not_exists={"CreatedAt": created},
        )
        stored = await self._engine.update(update)
        return self._decoder.decode_one("subscribe", stored)

    async def unsubscribe(self, connection_id: str, request_id: str) -> None:
        subscription = Subscription(connection_id=connection_id, request_id=request_id)
        await self._engine.delete(Delete(table=SUBSCRIPTIONS, key=subscription.subscription_id))

    async def save_many(
        self,
        subscriptions: Items[Subscription],
        *,
        on_result: OnResult[Subscription] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[Subscription]:
        bulk = Bulk("save_many", on_result, max_write_units, rng=self._rng)
        return await bulk_writes.put_many(
            bulk, self._engine, SUBSCRIPTIONS, subscriptions, self._stored
        )

    async def delete_many(
        self,
        subscription_ids: Items[str],
        *,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        bulk = Bulk("delete_many", on_result, max_write_units, rng=self._rng)
        return await bulk_writes.delete_many(
            bulk, self._engine, SUBSCRIPTIONS, "subscription_id", subscription_ids
        )

    def _stored(self, subscription: Subscription) -> tuple[Subscription, Item]:
        """Return the subscription as it is stored, and its item. Raises ValidationError."""
        now = self._clock.now()
        ttl = subscription.ttl
        record = replace(
            subscription,
            created_at=subscription.created_at or now,
            ttl=epoch(now, OTHER_TTL) if ttl is None else ttl,
        )
        return record, codec.subscription_item(record)

    async def get_by_connection(self, connection_id: str) -> list[Subscription]:
        require_text("connection_id", connection_id)
        items = await _items(self._engine, _BY_CONNECTION, connection_id)
        return self._decoder.decode_all(items)

    async def get_by_request(self, request_id: str) -> list[Subscription]:
        require_text("request_id", request_id)
        return self._decoder.decode_all(await _items(self._engine, _BY_REQUEST, request_id))

    async def any_exist(self) -> bool:
        scan = Scan(table=SUBSCRIPTIONS, attributes=(SUBSCRIPTIONS.hash_key,), limit=1)
        page = await self._engine.scan(scan)
        return bool(page.items) or page.last_evaluated_key is not None

    async def delete_by_connection(self, connection_id: str) -> int:
        require_text("connection_id", connection_id)
        keys = await keys_by_connection(self._engine, connection_id)
        if keys:
            await self._engine.delete_many(SUBSCRIPTIONS, keys)
        return len(keys)


async def keys_by_connection(engine: Engine, connection_id: str) -> list[str]:
    """Return the keys of a connection's subscriptions, from an index, which lags."""
    items = await _items(engine, _BY_CONNECTION, connection_id)
    return [codec.raw_text(item, "SubscriptionID") for item in items]


async def keys_by_request(engine: Engine, request_id: str) -> list[str]:
    """Return the keys of a request's subscriptions, from an index, which lags."""
    items = await _items(engine, _BY_REQUEST, request_id)
    return [codec.raw_text(item, "SubscriptionID") for item in items]


async def _items(engine: Engine, index: Index, value: str) -> list[Item]:
    query = Query(table=SUBSCRIPTIONS, index=index, value=value)
    return [item async for page in paginate(engine.query, query) for item in page.items]


def new_subscription(
    connection_id: str, request_id: str, event_types: Iterable[EventType], *, now: datetime
) -> Subscription:
    """Return a subscription that begins at `now`. Raises ValidationError."""
    return Subscription(
        connection_id=connection_id,
        request_id=request_id,
        event_types=_event_types(event_types),
        created_at=now,
        ttl=epoch(now, OTHER_TTL),
    )


def _event_types(event_types: Iterable[EventType]) -> frozenset[EventType]:
    """Return the event types as a set. Raises ValidationError if one is unknown."""
    if isinstance(event_types, str):
        raise ValidationError("event_types", f"must be a list, such as ['{event_types}'], not text")
    try:
        return frozenset(EventType(event_type) for event_type in event_types)
    except (TypeError, ValueError) as error:
        raise ValidationError("event_types", str(error)) from error
