"""The contract of the bulk operations on requests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from streamer_store.bulk import Items
from streamer_store.bulk_results import BulkSummary, OnResult
from streamer_store.models import AsyncRequest
from streamer_store.transitions import TERMINAL, RequestStatus, sources
from streamer_store.unique_keys import OnConflict


class BulkRequests(Protocol):
    """Operations on any number of requests, with a result for each.

    - They take iterables and async iterables, 100 items at a time. Up to 150 requests are under
      way at once. If the iterable raises, that error is raised, and what was under way may be done.
    - Each request stands alone: it is done, or it is refused with an error, and the others go on.
    - `on_result`: called with a BulkResult for each request, as it finishes, in no order. Use it
      for long inputs, and for progress. If None, the results are kept for the summary, and
      SomeRefused is raised in the end if one was refused.
    - `max_write_units`: about how many write units a second to consume. None: no limit.
    - When DynamoDB throttles or does not answer, each call is repeated for about a minute. Then
      StoreUnavailable is raised. Some requests are done, and the same call may be repeated.
    """

    async def enqueue_many(
        self,
        requests: Items[AsyncRequest],
        *,
        on_result: OnResult[AsyncRequest] | None = None,
        max_write_units: float | None = None,
        beyond_a_year: bool = False,
        on_conflict: OnConflict = "keep",
    ) -> BulkSummary[AsyncRequest]:
        """Store new requests. The record of a result is the request as stored.

        One with `retry_after` runs then (`beyond_a_year`: see `enqueue`). One with a `unique_key`
        is done, too, if its key has a request: the record is that one, and its `enqueued` is
        `exists` (`on_conflict`: see `enqueue`).
        A request is refused with the errors of `enqueue`: AlreadyExists, ValidationError,
        ItemTooLarge. Give ids: a call that is repeated then stores no request twice.
        """
        ...

    async def cancel_many(
        self,
        request_ids: Items[str],
        *,
        statuses: Collection[RequestStatus] = sources(RequestStatus.CANCELLED),
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        """Make waiting and running requests CANCELLED, and notify their workers.

        `statuses`: refuse requests in other statuses. One that is CANCELLED already is done. A
        request is refused with the errors of `cancel`.
        """
        ...

    async def cancel_by_connection(
        self,
        connection_id: str,
        *,
        running: bool = True,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        """Cancel the requests of a connection that have not ended.

        `running`: whether to cancel those that run, too. They come from an index, which lags.
        """
        ...

    async def redrive_many(
        self,
        request_ids: Items[str],
        *,
        statuses: Collection[RequestStatus] = sources(RequestStatus.PENDING) & TERMINAL,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        """Make FAILED and CANCELLED requests PENDING.

        `statuses`: refuse requests in other statuses. One is refused as by `redrive`.
        """
        ...

    async def update_status_many(
        self,
        request_ids: Items[str],
        status: RequestStatus,
        message: str | None = None,
        *,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        """Change the status by hand: waiting to CANCELLED, or FAILED or CANCELLED to PENDING.

        `message` becomes ProgressMessage. Raises ValidationError for any other `status`.
        """
        ...

    async def delete_many(
        self,
        request_ids: Items[str],
        *,
        statuses: Collection[RequestStatus] | None = None,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        """Delete requests.

        `statuses`: refuse requests in other statuses with RequestNotPending, and absent ones with
        NotFound. None: delete in any status, as `delete` does, which takes fewer calls.
        """
        ...

    async def delete_by_connection(
        self,
        connection_id: str,
        *,
        statuses: Collection[RequestStatus] = TERMINAL,
        on_result: OnResult[None] | None = None,
        max_write_units: float | None = None,
    ) -> BulkSummary[None]:
        """Delete the requests of a connection that have one of the statuses.

        They come from an index, which lags.
        """
        ...
