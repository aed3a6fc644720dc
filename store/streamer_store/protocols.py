"""The contracts. One suite (`tests/contract`) holds every implementation to them.

Every method may raise StoreUnavailable (a write may then have taken effect or not),
AccessDenied and TableMissing.

Each raises ValidationError for an argument that can never be right:
- an id that is empty or no text;
- a `limit` that is not a whole number from 1 on (None, where it is allowed, means all). An
  iterator raises it when the iteration begins;
- a `status` that is none of RequestStatus.

Lists are in the order of the text of CreatedAt, as the index has it. Text with an offset other
than UTC sorts by its local time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from streamer_store.models import (
    AsyncRequest,
    Candidate,
    Claim,
    Connection,
    EventType,
    Progress,
    Subscription,
    WorkerRow,
)
from streamer_store.rescues import Rescued, WorkerLoss
from streamer_store.transitions import RequestStatus
from streamer_store.values import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleSweep:
    """What a sweep met: `found` were stale, `deleted` went, `kept` had pinged meanwhile,
    `undecodable` had no time that reads.
    """

    found: int = 0
    deleted: int = 0
    kept: int = 0
    undecodable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatePage:
    """Some candidates, oldest first, and the cursor to the next page: None at the end."""

    candidates: Sequence[Candidate]
    cursor: Item | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many requests have a status: `count`, or that many and `more`; when the oldest came."""

    count: int
    more: bool = False
    oldest: datetime | None = None


class ConnectionStore(Protocol):
    async def save(self, connection: Connection) -> Connection:
        """Store the connection, replacing one of the same id; return it with its TTL."""
        ...

    async def get(self, connection_id: str) -> Connection:
        """Raises NotFound; Undecodable, which names the operation, the table and the key."""
        ...

    async def get_many(self, connection_ids: Iterable[str]) -> dict[str, Connection]:
        """Return those that exist, by id, in the order asked for."""
        ...

    async def delete(self, connection_id: str) -> None:
        """Remove the connection; well when it is gone already."""
        ...

    async def list_by_user(self, user_id: str) -> list[Connection]:
        """Return all connections of the user (from an index: a second old at times)."""
        ...

    async def list_by_tenant(self, tenant_id: str) -> list[Connection]: ...

    def list_all(self, *, limit: int | None = None) -> AsyncIterator[Connection]:
        """Yield the connections, in no order, page by page. Reads the table."""
        ...

    async def update_last_ping(self, connection_id: str) -> None:
        """Set LastPing to now and TTL to 24 hours from now. Raises NotFound."""
        ...

    async def delete_stale(self, before: datetime) -> int:
        """Delete the connections whose LastPing is earlier; return how many went."""
        ...

    async def sweep_stale(self, before: datetime, *, dry_run: bool = False) -> StaleSweep:
        """Find the connections that were last heard before `before` and, unless `dry_run`,
        delete each one, if its LastPing is still the one seen, and then its subscriptions.

        A connection without LastPing counts from ConnectedAt; one with neither is left to TTL.
        """
        ...


class RequestQueue(Protocol):
    async def enqueue(self, request: AsyncRequest) -> AsyncRequest:
        """Store a PENDING request and return it as stored, with id, CreatedAt and TTL.

        Raises AlreadyExists when the id is taken (never overwrites); ValidationError;
        ItemTooLarge over 392 KB.
        """
        ...

    async def enqueue_many(self, requests: Iterable[AsyncRequest]) -> list[AsyncRequest]:
        """Store them all, 25 at once; return them as stored, in order.

        All are validated before any is written. Not atomic: AlreadyExists names (in `key`,
        comma-separated) the given ids that were taken; every other request was stored.
        """
        ...

    async def get(self, request_id: str) -> AsyncRequest:
        """Raises NotFound; Undecodable, which names the operation, the table and the key."""
        ...

    async def get_many(self, request_ids: Iterable[str]) -> dict[str, AsyncRequest]:
        """Return those that exist, by id, in the order asked for."""
        ...

    async def delete(self, request_id: str) -> None:
        """Remove the request; well when it is gone already."""
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
        """Return up to `limit` requests of one status as StatusIndex shows them, of those that
        came at `since` or later.

        The index lags: a candidate may have moved on. RETRYING ones may not be due.
        """
        ...

    async def depth(self, status: RequestStatus, *, limit: int) -> Depth:
        """Count the requests of a status, as StatusIndex shows them, up to `limit`.

        The oldest of them is told by its moment, whatever the offset in its text. The index is
        read: half a read unit for each 4 KB of entries (15 to 40 of them).
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
        """Make a waiting request PROCESSING, if it is still as the candidate says.

        `version` is the one to set, a fresh one unless it is given. Whoever gives the same one
        again after StoreUnavailable is given the claim that the first try may have won.
        `alone` starts the probation of a suspect (`rescues.py`).
        Raises RequestNotPending (not due, or no longer waiting), ConcurrentModification
        (waiting, but changed), NotFound. A request that cannot be decoded, or has no room
        left, is failed with INVALID_REQUEST or ITEM_TOO_LARGE; then Undecodable or
        ItemTooLarge is raised.
        """
        ...

    async def dequeue(self, limit: int) -> list[Claim]:
        """Claim up to `limit` requests, oldest first, PENDING before RETRYING.

        For simple consumers: no WorkerID is set, so nobody rescues them.
        """
        ...

    async def update_progress(
        self,
        claim: Claim,
        progress: float | None = None,
        message: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write progress (a fraction, 0 to 1); what is None stays as it was.

        A write overtaken by a newer one of the same claim is dropped without error.
        Raises ClaimLost; Cancelled; ValidationError; ItemTooLarge.
        """
        ...

    async def checkpoint(
        self, claim: Claim, value: Any, *, progress: Progress | None = None
    ) -> None:
        """Store what an interrupted attempt shall be resumed from, and progress with it.

        The value is any that DynamoDB can hold; the next claim's request bears it. It stays
        through retries, releases, rescues and redrives, until the request is COMPLETED.
        Raises as update_progress does.
        """
        ...

    async def complete(
        self,
        claim: Claim,
        result: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Settle as COMPLETED, with the last of the progress; its fraction becomes 1. Where the
        item has no room for the result, message and details of the progress go.

        After StoreUnavailable the same settling call may be made again: it succeeds when the
        first has taken effect. Raises ClaimLost; Cancelled; ValidationError; ItemTooLarge.
        """
        ...

    async def fail(
        self, claim: Claim, error: str, code: str, *, progress: Progress | None = None
    ) -> None:
        """Settle as FAILED; where the item has no room, with a short text and ITEM_TOO_LARGE.

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
        counts: bool = True,
        rescued: Rescued | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Make it RETRYING, to run again after that time.

        `counts` adds 1 to RetryCount and starts a new count of rescues. `rescued` writes the
        counts of a rescue; RetryCount stays when `counts` is false.

        Raises ClaimLost; Cancelled; ValidationError.
        """
        ...

    async def release(self, claim: Claim, *, progress: Progress | None = None) -> None:
        """Give it back to PENDING; RetryCount stays. Raises ClaimLost; Cancelled."""
        ...

    async def rescue(
        self, seen: Candidate, *, error: str, code: str, loss: WorkerLoss | None = None
    ) -> RequestStatus:
        """Take a PROCESSING request, as seen, from its holder, and return its new status.

        - With `loss`, its worker was lost: RETRYING after a backoff, with Rescues + 1, or FAILED
          when it has come to its end (`rescues.py`).
        - Without, the attempt counts: RETRYING, due now, with RetryCount + 1, or FAILED past
          MaxRetries.
        - FAILED with INVALID_REQUEST when it cannot be decoded.

        Raises ConcurrentModification when it has moved on; NotFound.
        """
        ...

    async def cancel(self, request_id: str) -> AsyncRequest:
        """Make a waiting or running request CANCELLED and tell its worker.

        Cancelling what is CANCELLED tells the worker again. Raises NotFound;
        RequestNotPending when it has ended otherwise.
        """
        ...

    async def redrive(self, request_id: str) -> AsyncRequest:
        """Make a FAILED or CANCELLED request PENDING again, RetryCount 0.

        Its checkpoint stays. Somebody's cancel that follows at once stands, and is returned.
        Raises NotFound; RequestNotPending in any other status.
        """
        ...

    async def update_status(
        self, request_id: str, status: RequestStatus, message: str | None = None
    ) -> AsyncRequest:
        """Move a request by hand: a waiting one to CANCELLED, an ended one to PENDING.

        `message` becomes ProgressMessage. What enters or leaves PROCESSING needs a claim:
        RequestNotPending, whose `status` is the one that the request has, None where there is no
        request. Raises NotFound for the other moves.
        """
        ...

    def get_by_connection(
        self, connection_id: str, *, limit: int | None = None
    ) -> AsyncIterator[AsyncRequest]:
        """Yield the requests of a connection, newest first, page by page."""
        ...

    def get_by_status(
        self, status: RequestStatus, *, limit: int | None = None
    ) -> AsyncIterator[AsyncRequest]:
        """Yield the requests of a status, oldest first, page by page."""
        ...


class SubscriptionStore(Protocol):
    async def subscribe(
        self,
        connection_id: str,
        request_id: str,
        event_types: Iterable[EventType] = EventType,
    ) -> Subscription:
        """Store the subscription; again, it replaces the event types and renews the TTL."""
        ...

    async def unsubscribe(self, connection_id: str, request_id: str) -> None:
        """Remove it; well when it is gone already."""
        ...

    async def get_by_connection(self, connection_id: str) -> list[Subscription]: ...

    async def get_by_request(self, request_id: str) -> list[Subscription]: ...

    async def delete_by_connection(self, connection_id: str) -> int:
        """Remove all of the connection's, in batches; return how many."""
        ...


class WorkerRegistry(Protocol):
    async def register(self, row: WorkerRow) -> None:
        """Write the row of a new worker. Succeeds if the worker has written it already: the
        same StartedAt, host and process id. Raises AlreadyExists if another has this id.
        """
        ...

    async def beat(
        self,
        worker_id: str,
        *,
        in_flight: int,
        draining: bool,
        sweeps: int,
        handled: Iterable[str] = (),
        drain_handled: bool = False,
    ) -> WorkerRow:
        """Add 1 to Beat, renew the TTL, and return the row with its mailbox.

        `handled` Versions leave the mailbox in the same write, and the drain order with
        `drain_handled`. Raises NotFound when the row is gone: it is never made again.
        """
        ...

    async def list(self) -> list[WorkerRow]:
        """Return all rows, read consistently."""
        ...

    async def remove(self, worker_id: str, *, beat: int | None = None) -> bool:
        """Remove the row, if its Beat is `beat` when given; False when it had moved on."""
        ...

    async def request_cancel(self, worker_id: str, version: str) -> bool:
        """Put a Version into the worker's mailbox; False when it has no row."""
        ...

    async def request_drain(self, worker_id: str) -> bool:
        """Order the worker to drain; False when it has no row."""
        ...
