"""The contract of the table of connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from streamer_store.bulk import Items
from streamer_store.bulk_results import BulkSummary, OnResult
from streamer_store.models import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleSweep:
    """The counts of one sweep over stale connections."""

    found: int = 0
    """Connections that were stale when the sweep read them."""
    deleted: int = 0
    """Stale connections that are deleted now."""
    kept: int = 0
    """Stale connections that pinged before they could be deleted."""
    undecodable: int = 0
    """Connections whose LastPing or ConnectedAt could not be decoded. They are not deleted."""


class ConnectionStore(Protocol):
    """Stores open WebSocket connections: where to send messages, and when clients pinged.

    Lists by user and by tenant come from indexes, which lag: a new connection may be missing
    for about a second, and a deleted one may still be listed. All other reads are consistent.
    An item that cannot be decoded is reported and left out of lists.
    """

    async def save(self, connection: Connection) -> Connection:
        """Store the connection. It replaces a connection with the same id.

        Returns the connection with its TTL: 24 hours from now if `ttl` is None.
        Raises ValidationError if a value cannot be stored; ItemTooLarge over 400 KB.
        """
        ...

    async def save_many(
        self,
        connections: Items[Connection],
        *,
        on_result: OnResult[Connection] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[Connection]:
        """Store any number of connections, as `save` does. For the arguments see BulkRequests."""
        ...

    async def delete_many(
        self,
        connection_ids: Items[str],
        *,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        """Delete any number of connections. For the arguments see BulkRequests."""
        ...

    async def get(self, connection_id: str) -> Connection:
        """Return the connection.

        Raises NotFound; Undecodable, with the operation, the table and the key.
        """
        ...

    async def get_many(self, connection_ids: Iterable[str]) -> dict[str, Connection]:
        """Return the connections that exist, by id, in the order of `connection_ids`."""
        ...

    async def delete(self, connection_id: str) -> None:
        """Delete the connection. Succeeds if there is none. Its subscriptions are kept."""
        ...

    async def list_by_user(self, user_id: str, *, limit: int | None = None) -> list[Connection]:
        """Return the connections of the user, at most `limit`, from an index."""
        ...

    async def list_by_tenant(self, tenant_id: str, *, limit: int | None = None) -> list[Connection]:
        """Return the connections of the tenant, at most `limit`, from an index."""
        ...

    def list_all(self, *, limit: int | None = None) -> AsyncIterator[Connection]:
        """Yield up to `limit` connections, page by page, in no order. Scans the table."""
        ...

    async def update_last_ping(self, connection_id: str) -> None:
        """Set LastPing to now and TTL to 24 hours from now. Raises NotFound."""
        ...

    async def delete_stale(self, before: datetime) -> int:
        """Run `sweep_stale` and return the number of deleted connections."""
        ...

    async def sweep_stale(self, before: datetime, *, dry_run: bool = False) -> StaleSweep:
        """Delete each connection that was last heard from earlier than `before`.

        A connection is deleted only if its LastPing has not changed since it was read. Then its
        subscriptions are deleted. If there is no LastPing, ConnectedAt counts. If there is
        neither, the connection is left to its TTL. With `dry_run`, stale connections are only
        counted. Scans the table. Returns the counts.
        """
        ...
