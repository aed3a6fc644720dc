"""The contract of the table of subscriptions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streamer_store.bulk import Items
from streamer_store.bulk_results import BulkSummary, OnResult
from streamer_store.models import EventType, Subscription


class SubscriptionStore(Protocol):
    """Stores which connections receive messages about which requests.

    The lists come from indexes, which lag: a new subscription may be missing for about a second,
    and a deleted one may still be listed. An item that cannot be decoded is reported and left
    out of lists. Subscriptions expire 24 hours after the last `subscribe`.
    """

    async def subscribe(
        self,
        connection_id: str,
        request_id: str,
        event_types: Iterable[EventType] = EventType,
    ) -> Subscription:
        """Subscribe the connection to messages about the request.

        `event_types`: the kinds of messages to send, at least one. If the subscription exists,
        they replace its kinds, its TTL is renewed and its CreatedAt is kept.

        Returns the subscription as stored. Raises ValidationError if `connection_id` contains
        `#` or an event type is unknown.
        """
        ...

    async def unsubscribe(self, connection_id: str, request_id: str) -> None:
        """Delete the subscription. Succeeds if there is none."""
        ...

    async def save_many(
        self,
        subscriptions: Items[Subscription],
        *,
        on_result: OnResult[Subscription] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[Subscription]:
        """Store any number of subscriptions, which replace those of the same ids.

        CreatedAt is now, and the TTL 24 hours from now, where they are None. For the arguments
        see BulkRequests.
        """
        ...

    async def delete_many(
        self,
        subscription_ids: Items[str],
        *,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        """Delete any number of subscriptions, by `Subscription.subscription_id`.

        For the arguments see BulkRequests.
        """
        ...

    async def get_by_connection(self, connection_id: str) -> list[Subscription]:
        """Return all subscriptions of the connection."""
        ...

    async def get_by_request(self, request_id: str) -> list[Subscription]:
        """Return all subscriptions to the request."""
        ...

    async def any_exist(self) -> bool:
        """Return whether the table may have subscriptions, of any connection.

        False: the table had no item when the call began. So every `subscribe` that returned
        before the call began is known. True: there is an item, which may have expired, or
        DynamoDB did not read the whole table. It takes one consistent Scan of one item.
        """
        ...

    async def delete_by_connection(self, connection_id: str) -> int:
        """Delete all subscriptions of the connection that the index lists.

        Returns how many it listed.
        """
        ...
