from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple

import typer

from streamer_store import (
    AsyncRequest,
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
from streamer_worker.cli.selecting import Entry, RequestFilter

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
        async with AsyncExitStack() as closing:
            sources = [
                await closing.enter_async_context(
                    aclosing(selection.entries(stores.requests, each_status))
                )
                for each_status in status or RequestStatus
            ]
            with spinner("Reading the requests"):
                return await _read(stores, _newest_first(sources), limit, clock)

    listed = with_stores(config, work)
    requests = sorted(listed.requests, key=_creation, reverse=True)
    if listed.hidden:
        hidden = counted(listed.hidden, "request")
        print_line(f"{hidden} past their TTL hidden: DynamoDB deletes them within days", err=True)
    if as_json:
        print_json([summary_fields(request) for request in requests])
    elif requests:
        print_table(_COLUMNS, (_cells(request, clock) for request in requests))
    else:
        print_line("no matching requests")


class _Listed(NamedTuple):
    """The requests to show, and how many are hidden because they have ended and expired."""

    requests: list[AsyncRequest]
    hidden: int


async def _read(
    stores: Stores, entries: AsyncGenerator[Entry], limit: int, clock: SystemClock
) -> _Listed:
    """Read the requests of the first entries, until `limit` of them have not expired."""
    kept: list[AsyncRequest] = []
    hidden = 0
    async with aclosing(entries):
        while len(kept) < limit:
            ids: list[str] = []
            async for entry in entries:
                ids.append(entry.request_id)
                if len(ids) == min(_BATCH, limit - len(kept)):
                    break
            if not ids:
                break
            found = (await stores.requests.get_many(ids)).values()
            fresh = [request for request in found if not _is_expired(request, clock)]
            kept += fresh
            hidden += len(found) - len(fresh)
    return _Listed(kept, hidden)


async def _newest_first(sources: list[AsyncGenerator[Entry]]) -> AsyncGenerator[Entry]:
    """Yield the entries of several sources, each of which yields its newest first."""
    heads = [(source, await anext(source, None)) for source in sources]
    while waiting := [(source, entry) for source, entry in heads if entry is not None]:
        newest, entry = max(waiting, key=lambda head: _creation(head[1]))
        yield entry
        heads = [head for head in waiting if head[0] is not newest]
        heads.append((newest, await anext(newest, None)))


def _creation(request: Entry) -> datetime:
    return request.created_at or _UNKNOWN


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
