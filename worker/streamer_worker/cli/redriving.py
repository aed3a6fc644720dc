from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Final

import anyio
import typer

from streamer_store import (
    Candidate,
    ConcurrentModification,
    NotFound,
    RequestNotPending,
    RequestStatus,
    Stores,
    Undecodable,
)
from streamer_store.errors import ungrouped
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.listing import RequestFilter
from streamer_worker.cli.options import (
    ActionOption,
    ConfigOption,
    JsonOption,
    SinceOption,
    TenantOption,
    YesOption,
    with_stores,
)
from streamer_worker.cli.output import confirm_many, print_json, print_line, progress_bar

_MAX_CONCURRENT_WRITES: Final = 10
_WITHOUT_TERMINAL: Final = "give --yes to redrive them, or --dry-run to list them"


def redrive(
    request_id: Annotated[
        str | None, typer.Argument(help="Id of a FAILED or CANCELLED request.")
    ] = None,
    *,
    action: ActionOption = None,
    tenant: TenantOption = None,
    since: SinceOption = None,
    cancelled: Annotated[
        bool, typer.Option("--cancelled", help="Select CANCELLED requests too, not only FAILED.")
    ] = False,
    limit: Annotated[
        int,
        typer.Option(
            min=1, max=1_000_000, metavar="N", help="Maximum number of requests, the newest first."
        ),
    ] = 1000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the selected requests, and change nothing.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Set FAILED or CANCELLED requests back to PENDING, so that a worker runs them again.

    A redriven request has all its retries again and keeps its checkpoint. Name one request by
    its id, or select FAILED ones by --action, --tenant, --since, or several of these. The
    command asks for confirmation if more than one request is selected. Exits with 1 if the
    named request cannot be redriven or the answer is no, and with 2 if there is no terminal to
    ask on.

    Examples: `streamer-worker redrive 3f6c…`,
    `streamer-worker redrive --action generate_report --since 2h --dry-run`
    """
    if request_id is not None:
        if action or tenant or since or cancelled or dry_run:
            raise typer.BadParameter(
                "a request id cannot be combined with --action, --tenant, --since, --cancelled"
                " or --dry-run, which select several requests"
            )
        _redrive_one(request_id, config, as_json=as_json)
        return
    if action is None and tenant is None and since is None:
        raise typer.BadParameter("give a request id, --action, --tenant or --since")
    selection = RequestFilter(action=action, tenant=tenant, since=since)
    statuses = [RequestStatus.FAILED, *([RequestStatus.CANCELLED] if cancelled else [])]

    async def work(stores: Stores) -> tuple[list[str], list[str]]:
        ids = await _select_ids(stores, selection, statuses, limit)
        if dry_run:
            return ids, []
        if len(ids) > 1:
            question = f"Redrive {len(ids)} requests?"
            confirm_many(question, yes=yes, without_terminal=_WITHOUT_TERMINAL)
        return await _redrive_all(stores, ids)

    redriven, skipped = with_stores(config, work)
    if as_json:
        print_json({"dry_run": dry_run, "redriven": redriven, "skipped": skipped})
    else:
        _print_result(redriven, skipped, dry_run=dry_run)
        if len(redriven) + len(skipped) == limit:
            print_line(f"reached --limit {limit}: there may be more requests", err=True)


def _print_result(redriven: list[str], skipped: list[str], *, dry_run: bool) -> None:
    if dry_run:
        for request_id in redriven:
            print_line(request_id)
        print_line(f"would redrive {counted(len(redriven), 'request')}", err=True)
        return
    text = f"{counted(len(redriven), 'request')} redriven"
    if skipped:
        text += f", {len(skipped)} skipped because they changed meanwhile"
    print_line(text)


async def _select_ids(
    stores: Stores, selection: RequestFilter, statuses: list[RequestStatus], limit: int
) -> list[str]:
    entries: list[Candidate] = []
    for status in statuses:
        remaining = limit - len(entries)
        pages = selection.entries(stores.requests, status, remaining)
        entries += [entry async for entry in pages]
    return [entry.request_id for entry in entries]


def _redrive_one(request_id: str, config: ConfigOption, *, as_json: bool) -> None:
    async def work(stores: Stores) -> RequestStatus:
        return (await stores.requests.redrive(request_id)).status

    status = with_stores(config, work)
    if as_json:
        print_json({"dry_run": False, "redriven": [request_id], "skipped": []})
    elif status is RequestStatus.PENDING:
        print_line(f"{request_id} is PENDING again")
    else:
        print_line(f"{request_id} was redriven, and is {status} now")


async def _redrive_all(stores: Stores, ids: list[str]) -> tuple[list[str], list[str]]:
    """Redrive the requests; return the ids that were redriven, and those that were skipped."""
    redriven: set[str] = set()
    limiter = anyio.CapacityLimiter(_MAX_CONCURRENT_WRITES)
    with progress_bar(err=True, transient=True) as bar:
        task = bar.add_task("redriving", total=len(ids))

        async def redrive_one(request_id: str) -> None:
            async with limiter:
                # A request that changed since it was selected is skipped.
                with suppress(RequestNotPending, NotFound, ConcurrentModification, Undecodable):
                    await stores.requests.redrive(request_id)
                    redriven.add(request_id)
                bar.advance(task)

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for request_id in ids:
                    tasks.start_soon(redrive_one, request_id)
    skipped = [request_id for request_id in ids if request_id not in redriven]
    return [request_id for request_id in ids if request_id in redriven], skipped
