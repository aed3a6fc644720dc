"""The contract of storing new requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from streamer_store.models import AsyncRequest, EventType
from streamer_store.unique_keys import OnConflict


class NewRequests(Protocol):
    """Stores new requests: one, several in a transaction, or one with its subscriptions."""

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
        """Store a new request. It must be PENDING. At low priority it is stored as SCHEDULED.

        - `run_at`, `delay`: when it may run, at most one of both. It is stored as SCHEDULED until
          then, costs nothing while it waits, and starts at most a second late if a worker has a
          free slot. Never early by the worker's clock. A time that has passed means at once.
          `request.retry_after` says the same, where these parameters are missing.
        - `beyond_a_year`: whether that may be more than 366 days ahead.
        - `unique_key`: text of 1,024 bytes at most. If the action has a request with this key for
          the same tenant that waits or runs, that one is returned. FAILED and CANCELLED ones free
          the key at once. The key gives the id (`unique_id`), so `request_id` must be empty.
        - `unique_for`: how long a COMPLETED request is returned, too: 30 days at most. None: it
          frees the key at once.
        - `on_conflict`: `keep` returns a request that waits as it is. `replace_waiting` stores
          the new one in its place. It keeps CreatedAt, and no checkpoint and no counts of retries.
          With a delay it runs at the latest 10 delays after CreatedAt. One that runs is returned.

        `enqueued` of the request returned says whether it was created, exists, or was replaced.
        Its TTL is at least 7 days after the time at which it may run.
        Returns the request as stored, with its id, CreatedAt, TTL and Version.
        Raises AlreadyExists if `request_id` is set and taken (nothing is overwritten);
        ValidationError; ItemTooLarge over 392 KB (8 KB are kept free for the outcome). With a
        `unique_key` also Undecodable, if the request that has the key cannot be read, and
        ConcurrentModification, if that one keeps changing.
        """
        ...

    async def enqueue_all(
        self, requests: Iterable[AsyncRequest], *, beyond_a_year: bool = False
    ) -> list[AsyncRequest]:
        """Store new requests, all or none: 100 at most, 4 MB together (TransactWriteItems).

        None may have a `unique_key`.

        One with `retry_after` runs then (`beyond_a_year`: see `enqueue`).
        A transaction costs twice the write units. Returns the requests as stored, in the same
        order. Raises AlreadyExists if ids are taken: `key` has these ids, joined by commas.
        Raises ValidationError, also for more than 100 and for an id that is there twice;
        ItemTooLarge; StoreUnavailable while other writes to the same items are in the way.
        """
        ...

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
        """Store a new request and subscriptions to it, all or none (TransactWriteItems).

        It must have no `unique_key`: enqueue that with `enqueue`, and subscribe to its id.

        - `subscriptions`: for each connection id, the events that it receives.
        - `require_connection`: whether these connections, and that of the request, must be there.
        - `run_at`, `delay`, `beyond_a_year`: see `enqueue`.

        The request, each subscription and each connection is one of 100 parts at most. What is
        written costs twice the write units, and each connection that must be there 2 more.

        Returns the request as stored. Raises NotFound, whose `key` is the connection that is
        missing; AlreadyExists; ValidationError; ItemTooLarge; StoreUnavailable.
        """
        ...
