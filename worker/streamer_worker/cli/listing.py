from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from streamer_store import (
    AsyncRequest,
    Candidate,
    RequestQueue,
    RequestStatus,
    Stores,
    SystemClock,
)
from streamer_worker.cli.formatting import age, status_message, summary_fields
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

    async def work(stores: Stores) -> list[AsyncRequest]:
        entries: list[Candidate] = []
        with spinner("Reading the index"):
            for each_status in status or RequestStatus:
                pages = selection.entries(stores.requests, each_status, limit)
                entries += [entry async for entry in pages]
        entries.sort(
            key=lambda entry: (entry.created_at is not None, entry.created_at), reverse=True
        )
        ids = [entry.request_id for entry in entries[:limit]]
        return list((await stores.requests.get_many(ids)).values())

    found = with_stores(config, work)
    requests = [request for request in found if not _is_expired(request, clock)]
    if hidden := len(found) - len(requests):
        which = (
            "1 request is hidden: its" if hidden == 1 else f"{hidden} requests are hidden: their"
        )
        text = f"{which} TTL has passed, and DynamoDB deletes expired items within a few days"
        print_line(text, err=True)
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
        self, requests: RequestQueue, status: RequestStatus, limit: int
    ) -> AsyncIterator[Candidate]:
        """Yield up to `limit` matching requests in `status`, newest first, from StatusIndex."""
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
                    limit -= 1
            cursor = page.cursor
            if cursor is None:
                return

    def _matches(self, entry: Candidate) -> bool:
        return self._action in {None, entry.action} and self._tenant in {None, entry.tenant_id}


def _is_expired(request: AsyncRequest, clock: SystemClock) -> bool:
    return request.ttl is not None and request.ttl < clock.now().timestamp()


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
