"""The contract of the table of requests, which is the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from streamer_store.bulk import Items
from streamer_store.lanes import Lane
from streamer_store.models import AsyncRequest, Candidate, Claim, Progress
from streamer_store.protocols.actions import RequestActions
from streamer_store.protocols.bulk import BulkRequests
from streamer_store.protocols.new_requests import NewRequests
from streamer_store.rescues import Rescued, WorkerLoss
from streamer_store.transitions import RequestStatus
from streamer_store.values import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatePage:
    """One page of candidates."""

    candidates: Sequence[Candidate]
    """The candidates, in the order that was asked for. May be empty before the last page."""
    cursor: Item | None = None
    """Where the next page starts. None: this is the last page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many requests have a status."""

    count: int
    """The number of requests, counted up to the limit."""
    more: bool = False
    """Whether there are more than `count`."""
    oldest: datetime | None = None
    """The CreatedAt of the oldest request. None: no request, or none with a valid CreatedAt."""


class RequestQueue(NewRequests, BulkRequests, RequestActions, Protocol):
    """Stores requests and their state. Workers claim requests, run them and settle them.

    - Delivery is at least once. A handler can run again after a crash, so it must be idempotent,
      with the help of its checkpoint and the request id.
    - A claim is the only way to run a request. `update_progress`, `checkpoint` and the methods
      that settle (`complete`, `fail`, `retry`, `release`) write only while the claim holds.
      Otherwise they raise ClaimLost, or its subclass Cancelled if the request was cancelled.
      The caller then stops the handler and writes nothing more.
    - After StoreUnavailable the caller may repeat the same call that settles. It succeeds if the
      first call took effect.
    - `entries`, `due_entries`, `depth`, `lane_depths`, `get_by_status` and `get_by_connection`
      read indexes, which lag: they can miss recent changes for about a second. All other reads
      are consistent.
    - An item that cannot be decoded is reported and left out of lists. A claim fails it.
    """

    async def get(self, request_id: str) -> AsyncRequest:
        """Return the request.

        Raises NotFound; Undecodable, with the operation, the table and the key.
        """
        ...

    async def get_many(self, request_ids: Items[str]) -> dict[str, AsyncRequest]:
        """Return the requests that exist, by id, in the order of `request_ids`."""
        ...

    async def delete(self, request_id: str) -> None:
        """Delete the request, also while it runs. Succeeds if there is none."""
        ...

    async def entries(
        self,
        status: RequestStatus,
        *,
        limit: int,
        cursor: Item | None = None,
        since: datetime | None = None,
        newest_first: bool = False,
    ) -> CandidatePage:
        """Return a page of up to `limit` requests of a status from StatusIndex, oldest first.

        - `cursor`: the cursor of the page before. None: the first page.
        - `since`: only requests whose CreatedAt is not earlier.

        A candidate may have another status by now. A RETRYING or SCHEDULED candidate may not
        be due.
        """
        ...

    async def due_entries(
        self,
        lane: Lane,
        *,
        until: datetime,
        limit: int,
        cursor: Item | None = None,
        newest_first: bool = False,
    ) -> CandidatePage | None:
        """Return a page of up to `limit` requests of a lane that are due at `until`, by DueAt.

        - `cursor`: the cursor of the page before. None: the first page.
        - `newest_first`: whether the one that became due last comes first.

        Returns None if the table has no DueIndex: use `entries`. DynamoDB is asked for it every
        5 minutes. A candidate may have another status by now, may not be due, and is
        `misplaced` if `correct_lane` should be called. An entry whose Status this release does
        not know is reported and left out.
        """
        ...

    async def lane_depths(
        self, lane: Lane, *, now: datetime, later: bool, limit: int
    ) -> Mapping[RequestStatus, Depth] | None:
        """Count the RETRYING and SCHEDULED requests of a lane, by status.

        - `later`: whether to count those that are due after `now`, or those that are due.
        - `limit`: the most entries to read, of which PENDING ones are not counted.

        Returns None if the table has no DueIndex: use `depth`.
        """
        ...

    async def correct_lane(self, request_id: str) -> bool:
        """Put a request into the lane of DueIndex that its status, priority and times require.

        Older releases and the Go store do not write lanes. Returns whether it was changed: not if
        the lane is right, if there is no such request, or if the request changes meanwhile.
        Raises Undecodable for a Status that this release does not know.
        """
        ...

    async def depth(self, status: RequestStatus, *, limit: int) -> Depth:
        """Count the requests of a status in StatusIndex, up to `limit`.

        `oldest` is the earliest moment, even if the text of CreatedAt has an offset. Reading
        costs half a read unit for each 4 KB of entries (15 to 40 entries).
        """
        ...

    async def claim(
        self,
        candidate: Candidate,
        *,
        worker_id: str | None = None,
        version: str | None = None,
        alone: bool = False,
    ) -> Claim:
        """Make a waiting request PROCESSING, if its Version is still that of the candidate.

        - `worker_id`: the worker that holds the claim. None: no worker, so it is not rescued.
        - `version`: the Version to set. None: a new UUID. After StoreUnavailable, the same
          candidate and version return the claim that the first call may have won.
        - `alone`: whether to start the probation of a suspect (docs/failures.md).

        Returns the claim with the whole request. Raises RequestNotPending if the request does
        not wait or is not due; ConcurrentModification if it waits but has changed; NotFound.
        A request that cannot be decoded is failed with INVALID_REQUEST, and one without room
        for the claim with ITEM_TOO_LARGE. Then Undecodable or ItemTooLarge is raised.
        """
        ...

    async def dequeue(self, limit: int) -> list[Claim]:
        """Claim up to `limit` requests that are due: high, PENDING, RETRYING, then SCHEDULED ones.

        For simple consumers without a row in the table of workers: WorkerID is not set, so
        the requests are not rescued. Of each kind the oldest are first. Requests that cannot
        be claimed are left out. Up to 25 are claimed at once. After an error, the claims made so
        far are returned; without any, the error is raised.
        """
        ...

    async def update_progress(
        self,
        claim: Claim,
        progress: float | None = None,
        message: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the progress of a running request. What is None keeps its stored value.

        `progress` is a fraction from 0 to 1. A write that arrives after a newer one of the same
        claim has no effect and no error.
        Raises ClaimLost; Cancelled; ValidationError; ItemTooLarge.
        """
        ...

    async def checkpoint(
        self, claim: Claim, value: Any, *, progress: Progress | None = None
    ) -> None:
        """Store a value to resume from, and progress in the same write.

        `value`: any value that DynamoDB can store. The request of the next claim has it. It is
        kept through retries, releases, rescues and redrives until the request is COMPLETED.
        Raises the errors of `update_progress`.
        """
        ...

    async def complete(
        self,
        claim: Claim,
        result: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Settle the request as COMPLETED, with its result. Its progress becomes 1.

        `progress`: the last message and details. If the item has no room for the result, message
        and details are removed. Raises ClaimLost; Cancelled; ValidationError; ItemTooLarge.
        """
        ...

    async def fail(
        self,
        claim: Claim,
        error: str,
        code: str,
        *,
        error_class: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Settle the request as FAILED, with the error text and code.

        `error_class`: the class of the handler's exception, for `attempts`. If the item has no
        room for them, the text is cut and the code becomes ITEM_TOO_LARGE.
        Raises ClaimLost; Cancelled; ValidationError.
        """
        ...

    async def retry(
        self,
        claim: Claim,
        after: timedelta,
        *,
        error: str | None = None,
        code: str | None = None,
        error_class: str | None = None,
        counts: bool = True,
        rescued: Rescued | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Settle the attempt as RETRYING. The request becomes due after `after`.

        - `error`, `code`: why the attempt failed. None: nothing is written.
        - `error_class`: the class of the handler's exception, for `attempts`.
        - `counts`: add 1 to RetryCount and remove Rescues, Solo and Alone. Without it, and without
          `rescued`, the attempt has not failed, and is not added to `attempts`.
        - `rescued`: the counts to write if the worker fenced itself. Use it without `counts`.

        Raises ClaimLost; Cancelled; ValidationError, also if `after` is negative.
        """
        ...

    async def release(self, claim: Claim, *, progress: Progress | None = None) -> None:
        """Return the request to PENDING, or at low priority to SCHEDULED and due.

        RetryCount is unchanged. Raises ClaimLost; Cancelled.
        """
        ...

    async def rescue(
        self, seen: Candidate, *, error: str, code: str, loss: WorkerLoss | None = None
    ) -> RequestStatus:
        """Take a PROCESSING request from its holder and return its new status.

        1. It cannot be decoded: FAILED with INVALID_REQUEST. No room for the error text: FAILED
           with ITEM_TOO_LARGE.
        2. `loss` is given, so the worker was lost: RETRYING after a backoff with Rescues + 1, or
           FAILED (docs/failures.md).
        3. Otherwise the attempt counts: RETRYING, due now, with RetryCount + 1, or FAILED if
           there are no retries left.

        Raises ConcurrentModification if it is not PROCESSING under the Version seen; NotFound.
        """
        ...

    def get_by_connection(
        self, connection_id: str, *, limit: int | None = None
    ) -> AsyncIterator[AsyncRequest]:
        """Yield up to `limit` requests of the connection, newest first, page by page."""
        ...

    def get_by_status(
        self, status: RequestStatus, *, limit: int | None = None
    ) -> AsyncIterator[AsyncRequest]:
        """Yield up to `limit` requests of the status, oldest first, page by page."""
        ...
