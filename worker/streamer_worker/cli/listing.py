from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

import typer

from streamer_store import (
    AsyncRequest,
    Candidate,
    RequestQueue,
    RequestStatus,
    Stores,
    SystemClock,
)
from streamer_store.transitions import TERMINAL
from streamer_worker.cli.formatting import age, counted, status_message, summary_fields
from streamer_worker.cli.options import (
    ActionOption,
    ConfigOption,
    JsonOption,
    SinceOption,
    TenantOption,
    with_stores,
)
from streamer_worker.cli.output import print_json, print_line, print_table, spinner

_PAGE: Final = 500
_BATCH: Final = 100  # as BatchGetItem takes
_UNKNOWN: Final = datetime.min.replace(tzinfo=UTC)
_COLUMNS: Final = (
    "request",
    "status",
    "action",
    "tenant",
    "age",
    "retries",
    "progress",
    "message",
)


def list_requests(
    *,
    status: Annotated[
        list[RequestStatus] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help=f"Only requests in this status: {', '.join(RequestStatus)}."
            " Repeat it for several.",
        ),
    ] = None,
    action: ActionOption = None,
    tenant: TenantOption = None,
    since: SinceOption = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="Maximum number of requests.")
    ] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List requests, newest first.

    JSON omits payloads, results, checkpoints and progress details; `show` prints them.

    Example: `streamer-worker list --status FAILED --action generate_report --since 2h`
    """
    clock = SystemClock()
    selection = RequestFilter(action=action, tenant=tenant, since=since)

    async def work(stores: Stores) -> _Listed:
        listed = _Listed([], 0)
        with spinner("Reading the index"):
            for each_status in status or RequestStatus:
                found = await _list_status(stores, selection, each_status, limit, clock)
                listed = _Listed(listed.requests + found.requests, listed.hidden + found.hidden)
        listed.requests.sort(key=lambda request: request.created_at or _UNKNOWN, reverse=True)
        return listed

    listed = with_stores(config, work)
    requests = listed.requests[:limit]
    if listed.hidden:
        hidden = counted(listed.hidden, "request")
        print_line(f"{hidden} past their TTL hidden: DynamoDB deletes them within days", err=True)
    if as_json:
        print_json([summary_fields(request) for request in requests])
    elif requests:
        print_table(_COLUMNS, (_cells(request, clock) for request in requests))
    else:
        print_line("no matching requests")


class RequestFilter:
    """Selects requests by action, tenant and creation time. None selects all."""

    def __init__(
        self, *, action: str | None = None, tenant: str | None = None, since: datetime | None = None
    ) -> None:
        self._action = action
        self._tenant = tenant
        self._since = since

    async def entries(
        self, requests: RequestQueue, status: RequestStatus, limit: int | None = None
    ) -> AsyncGenerator[Candidate]:
        """Yield up to `limit` matching requests in `status`, newest first, from StatusIndex.

        limit: None yields all.
        """
        cursor: Any = None
        while True:
            page = await requests.entries(
                status, limit=_PAGE, cursor=cursor, since=self._since, newest_first=True
            )
            for entry in page.candidates:
                if limit == 0:
                    return
                if self._matches(entry):
                    yield entry
                    limit = None if limit is None else limit - 1
            cursor = page.cursor
            if cursor is None:
                return

    def _matches(self, entry: Candidate) -> bool:
        return self._action in {None, entry.action} and self._tenant in {None, entry.tenant_id}


class _Listed(NamedTuple):
    """The requests to show, and how many are hidden because they have ended and expired."""

    requests: list[AsyncRequest]
    hidden: int


async def _list_status(
    stores: Stores, selection: RequestFilter, status: RequestStatus, limit: int, clock: SystemClock
) -> _Listed:
    """Return up to `limit` requests of a status, newest first."""
    kept: list[AsyncRequest] = []
    hidden = 0
    async with aclosing(selection.entries(stores.requests, status)) as entries:
        while len(kept) < limit:
            wanted = min(_BATCH, limit - len(kept))
            ids = [entry.request_id async for entry in _first(entries, wanted)]
            found = (await stores.requests.get_many(ids)).values()
            fresh = [request for request in found if not _is_expired(request, clock)]
            kept += fresh
            hidden += len(found) - len(fresh)
            if len(ids) < wanted:
                break
    return _Listed(kept, hidden)


async def _first(entries: AsyncIterator[Candidate], count: int) -> AsyncIterator[Candidate]:
    """Yield up to `count` entries, and leave the others."""
    for _ in range(count):
        try:
            yield await anext(entries)
        except StopAsyncIteration:
            return


def _is_expired(request: AsyncRequest, clock: SystemClock) -> bool:
    """Return whether an ended request is past its TTL. One that waits is still claimed."""
    is_past = request.ttl is not None and request.ttl < clock.now().timestamp()
    return is_past and request.status in TERMINAL


def _cells(request: AsyncRequest, clock: SystemClock) -> tuple[str, ...]:
    return (
        request.request_id,
        request.status,
        request.action,
        request.tenant_id or "",
        age(request.created_at, clock),
        f"{request.retry_count}/{request.max_retries}",
        f"{request.progress:.0%}",
        status_message(request),
    )
