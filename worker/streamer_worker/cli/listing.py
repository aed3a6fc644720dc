from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Final, NamedTuple

import typer

from streamer_store import AsyncRequest, RequestStatus, Stores, SystemClock
from streamer_store.transitions import DELAYED, TERMINAL
from streamer_worker.cli.columns import STATUS_STYLES, WIDE, Cell, Column
from streamer_worker.cli.formatting import (
    age,
    counted,
    due_text,
    status_message,
    summary_fields,
)
from streamer_worker.cli.options import (
    ActionOption,
    ConfigOption,
    ConnectionOption,
    JsonOption,
    SinceOption,
    TenantOption,
    UntilOption,
    UserOption,
    status_option,
    with_stores,
)
from streamer_worker.cli.output import print_json, print_line, print_rows, spinner
from streamer_worker.cli.request_lines import PriorityChoice
from streamer_worker.cli.selecting import Entry, RequestFilter, creation_of

_BATCH: Final = 100  # as BatchGetItem takes
_ALL: Final = 100_000
_MAX_COUNTED: Final = 2_000
_COLUMNS: Final = (
    Column(name="request"),
    Column(name="status"),
    Column(name="action", can_cut=True),
    Column(name="tenant", can_cut=True, is_optional=True, from_width=WIDE),
    Column(name="age"),
    Column(name="due", is_optional=True),
    Column(name="priority", is_optional=True),
    Column(name="retries", is_optional=True),
    Column(name="done", is_optional=True),
    Column(name="message", can_cut=True, is_optional=True),
)


def list_requests(
    *,
    status: Annotated[list[RequestStatus] | None, status_option(RequestStatus)] = None,
    action: ActionOption = None,
    tenant: TenantOption = None,
    user: UserOption = None,
    priority: Annotated[
        PriorityChoice | None,
        typer.Option(
            "--priority",
            metavar="PRIORITY",
            case_sensitive=False,
            help="Only requests of this priority: `high`, `normal` or `low`.",
        ),
    ] = None,
    connection: ConnectionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="Maximum number of requests.")
    ] = 50,
    every: Annotated[
        bool, typer.Option("--all", help=f"List all, up to {_ALL:,}, whatever --limit says.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List requests, newest first.

    A terminal shows the beginnings of ids, which other commands accept. Elsewhere ids and texts
    are whole, with tabs between columns and `-` for an empty one. JSON omits payloads, results,
    checkpoints and progress details; `show` prints them. No index of statuses has users and
    priorities, so --user and --priority read whole requests until they have found enough.

    Example: `streamer-worker list --status failed --action generate_report --since 2h`
    """

    def is_wanted(request: AsyncRequest) -> bool:
        return user in {None, request.user_id} and (
            priority is None or request.priority is priority.argument
        )

    clock = SystemClock()
    filter_read = None if user is None and priority is None else is_wanted
    selection = RequestFilter(
        action=action, tenant=tenant, connection=connection, since=since, until=until
    )

    async def work(stores: Stores) -> _Listed:
        entries = selection.newest_first(stores.requests, status or list(RequestStatus))
        async with aclosing(entries):
            with spinner("Reading the requests"):
                return await _read(stores, entries, filter_read, _ALL if every else limit, clock)

    listed = with_stores(config, work)
    requests = sorted(listed.requests, key=creation_of, reverse=True)
    if listed.hidden:
        hidden = counted(listed.hidden, "request")
        print_line(f"{hidden} past their TTL hidden: DynamoDB deletes them within days", err=True)
    if as_json:
        print_json([summary_fields(request) for request in requests])
    elif requests:
        print_rows(_COLUMNS, [_cells(request, clock) for request in requests])
    else:
        print_line("no matching requests")
    if listed.more:
        print_line(f"... and {listed.more} more ({'--until' if every else '--all'})", err=True)


class _Listed(NamedTuple):
    """The requests to show, without what may be large."""

    requests: list[AsyncRequest]
    hidden: int
    """How many are hidden because they have ended and expired."""
    more: str
    """How many others there are, in words. Empty: none."""


async def _read(
    stores: Stores,
    entries: AsyncGenerator[Entry],
    is_wanted: Callable[[AsyncRequest], bool] | None,
    limit: int,
    clock: SystemClock,
) -> _Listed:
    """Read the requests of the first entries, until `limit` of them are to be shown.

    is_wanted: None if all are.
    """
    kept: dict[str, AsyncRequest] = {}
    hidden = 0
    while len(kept) < limit:
        # Which ones are wanted is known only afterwards, so read many at once.
        size = _BATCH if is_wanted is not None else min(_BATCH, limit - len(kept))
        ids = [entry.request_id async for entry in _first(entries, size)]
        if not ids:
            return _Listed(list(kept.values()), hidden, more="")
        found = (await stores.requests.get_many(ids)).values()
        wanted = [request for request in found if is_wanted is None or is_wanted(request)]
        fresh = [request for request in wanted if not _is_expired(request, clock)]
        hidden += len(wanted) - len(fresh)
        kept |= {request.request_id: _without_large_fields(request) for request in fresh}
    requests = list(kept.values())[:limit]
    count = sum([1 async for _ in _first(entries, _MAX_COUNTED + 1)])
    if is_wanted is not None:
        more = "perhaps" if count or len(kept) > limit else ""
    else:
        more = f"more than {_MAX_COUNTED:,}" if count > _MAX_COUNTED else f"{count:,}" * (count > 0)
    return _Listed(requests, hidden, more)


async def _first(entries: AsyncGenerator[Entry], count: int) -> AsyncGenerator[Entry]:
    """Yield the next entries, up to `count`, and leave the others."""
    while count > 0 and (entry := await anext(entries, None)) is not None:
        count -= 1
        yield entry


def _without_large_fields(request: AsyncRequest) -> AsyncRequest:
    return replace(request, payload=None, result=None, checkpoint=None, progress_details=None)


def _is_expired(request: AsyncRequest, clock: SystemClock) -> bool:
    """Return whether an ended request is past its TTL. One that waits is still claimed."""
    is_past = request.ttl is not None and request.ttl < clock.now().timestamp()
    return is_past and request.status in TERMINAL


def _cells(request: AsyncRequest, clock: SystemClock) -> tuple[Cell, ...]:
    has_retried = request.retry_count > 0 or request.status in DELAYED
    return (
        request.request_id,
        (request.status, STATUS_STYLES[request.status]),
        request.action,
        request.tenant_id or "",
        age(request.created_at, clock),
        due_text(request, clock) if request.status in DELAYED else "",
        request.priority or "",
        f"{request.retry_count}/{request.max_retries}" if has_retried else "",
        f"{request.progress:.0%}" if request.progress and request.status not in TERMINAL else "",
        status_message(request),
    )
