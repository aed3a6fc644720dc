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
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    age,
    brief,
    says,
    with_stores,
)
from streamer_worker.cli.output import print_table, say, tell_json
from streamer_worker.cli.output import status as status_line

_PAGE: Final = 500
_COLUMNS: Final = ("request", "status", "action", "tenant", "age", "retries", "progress", "says")

ActionOption = Annotated[str | None, typer.Option("--action", help="Only this action.")]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]


def list_requests(
    *,
    status: Annotated[
        list[RequestStatus] | None,
        typer.Option("--status", help="Only this status; may be given again. All, unless given."),
    ] = None,
    action: ActionOption = None,
    tenant: TenantOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List requests, the newest first.

    JSON leaves out payloads and results; `show` has them.

    Example: `streamer-worker list --status FAILED --action generate_report --since 2h`
    """
    clock = SystemClock()
    wanted = Wanted(action=action, tenant=tenant, since=since)

    async def work(stores: Stores) -> list[AsyncRequest]:
        found: list[Candidate] = []
        with status_line("Reading the index"):
            for each in status or RequestStatus:
                found += [entry async for entry in wanted.entries(stores.requests, each, limit)]
        found.sort(key=lambda each: (each.created_at is not None, each.created_at), reverse=True)
        ids = [each.request_id for each in found[:limit]]
        return list((await stores.requests.get_many(ids)).values())

    found = with_stores(config, work)
    if as_json:
        tell_json([brief(request) for request in found])
    elif found:
        print_table(_COLUMNS, (_row(request, clock) for request in found))
    else:
        say("no such requests")


class Wanted:
    """Which requests an operator means."""

    def __init__(
        self, *, action: str | None = None, tenant: str | None = None, since: datetime | None = None
    ) -> None:
        self._action = action
        self._tenant = tenant
        self._since = since

    async def entries(
        self, requests: RequestQueue, status: RequestStatus, limit: int
    ) -> AsyncIterator[Candidate]:
        """Yield up to `limit` of a status, the newest first, as the index shows them."""
        cursor: Any = None
        while True:
            page = await requests.entries(
                status, limit=_PAGE, cursor=cursor, since=self._since, newest_first=True
            )
            for entry in page.candidates:
                if limit == 0:
                    return
                if self._is_one(entry):
                    yield entry
                    limit -= 1
            cursor = page.cursor
            if cursor is None:
                return

    def _is_one(self, entry: Candidate) -> bool:
        return self._action in {None, entry.action} and self._tenant in {None, entry.tenant_id}


def _row(request: AsyncRequest, clock: SystemClock) -> tuple[str, ...]:
    return (
        request.request_id,
        request.status,
        request.action,
        request.tenant_id or "",
        age(request.created_at, clock),
        f"{request.retry_count}/{request.max_retries}",
        f"{request.progress:.0%}",
        says(request),
    )
