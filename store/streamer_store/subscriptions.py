"""Who wants to hear of which request, over any engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streamer_store import codec
from streamer_store.clock import Clock
from streamer_store.engine import Delete, Engine, Query, Update, paginate
from streamer_store.errors import Undecodable, ValidationError, located
from streamer_store.models import EventType, Subscription, require_text
from streamer_store.schema import OTHER_TTL, SUBSCRIPTIONS, Index
from streamer_store.times import epoch
from streamer_store.values import Item

_BY_CONNECTION = SUBSCRIPTIONS.index("ConnectionIndex")
_BY_REQUEST = SUBSCRIPTIONS.index("RequestIndex")


class SubscriptionTable:
    """Implements SubscriptionStore. `report` hears of items that cannot be decoded."""

    def __init__(
        self, *, engine: Engine, clock: Clock, report: Callable[[Undecodable], None]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._report = report

    async def subscribe(
        self,
        connection_id: str,
        request_id: str,
        event_types: Iterable[EventType] = EventType,
    ) -> Subscription:
        now = self._clock.now()
        record = Subscription(
            connection_id=connection_id,
            request_id=request_id,
            event_types=_event_types(event_types),
            created_at=now,
            ttl=epoch(now, OTHER_TTL),
        )
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
        with located("subscribe", self._engine.table_name(SUBSCRIPTIONS)):
            return codec.subscription(stored)

    async def unsubscribe(self, connection_id: str, request_id: str) -> None:
        gone = Subscription(connection_id=connection_id, request_id=request_id)
        await self._engine.delete(Delete(table=SUBSCRIPTIONS, key=gone.subscription_id))

    async def get_by_connection(self, connection_id: str) -> list[Subscription]:
        require_text("connection_id", connection_id)
        return self._decoded(await self._items(_BY_CONNECTION, connection_id))

    async def get_by_request(self, request_id: str) -> list[Subscription]:
        require_text("request_id", request_id)
        return self._decoded(await self._items(_BY_REQUEST, request_id))

    async def delete_by_connection(self, connection_id: str) -> int:
        require_text("connection_id", connection_id)
        items = await self._items(_BY_CONNECTION, connection_id)
        keys = [codec.raw_text(item, "SubscriptionID") for item in items]
        if keys:
            await self._engine.delete_many(SUBSCRIPTIONS, keys)
        return len(keys)

    async def _items(self, index: Index, value: str) -> list[Item]:
        items: list[Item] = []
        query = Query(table=SUBSCRIPTIONS, index=index, value=value)
        async for page in paginate(self._engine.query, query):
            items.extend(page.items)
        return items

    def _decoded(self, items: list[Item]) -> list[Subscription]:
        found = []
        for item in items:
            try:
                found.append(codec.subscription(item))
            except Undecodable as error:
                error.table = self._engine.table_name(SUBSCRIPTIONS)
                self._report(error)
        return found


def _event_types(given: Iterable[EventType]) -> frozenset[EventType]:
    try:
        return frozenset(EventType(each) for each in given)
    except (TypeError, ValueError) as error:
        raise ValidationError("event_types", str(error)) from error
