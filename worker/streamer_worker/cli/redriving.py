from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer

from streamer_store import AsyncRequest, RequestStatus, Stores
from streamer_worker.cli.bulk import (
    Change,
    DryRunOption,
    LimitOption,
    MaxWriteUnitsOption,
    Selection,
    Verb,
    change_many,
    refuse_options,
    report_changed,
    require_selection,
)
from streamer_worker.cli.ids import change_request
from streamer_worker.cli.options import (
    ActionOption,
    ConfigOption,
    ConnectionOption,
    JsonOption,
    SinceOption,
    TenantOption,
    YesOption,
    with_stores,
)
from streamer_worker.cli.output import print_json, print_line
from streamer_worker.cli.selecting import RequestFilter

_VERB: Final = Verb(infinitive="redrive", past="redriven")


def redrive(
    request_id: Annotated[
        str | None,
        typer.Argument(help="Id of a FAILED or CANCELLED request, or the first characters of it."),
    ] = None,
    *,
    action: ActionOption = None,
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    since: SinceOption = None,
    cancelled: Annotated[
        bool, typer.Option("--cancelled", help="Select CANCELLED requests too, not only FAILED.")
    ] = False,
    limit: LimitOption = 1_000_000,
    max_write_units: MaxWriteUnitsOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Set FAILED or CANCELLED requests back to PENDING, so that a worker runs them again.

    A redriven request has all its retries again and keeps its checkpoint. Name one request by
    its id or the beginning of it, or select FAILED ones by --action, --tenant, --connection,
    --since, or several of these. The command asks for confirmation if the id is not whole, or if
    more than one request is selected. Exits with 1
    if a request cannot be redriven or the answer is no, and with 2 if there is no terminal to
    ask on.

    Examples: `streamer-worker redrive 3f6c…`,
    `streamer-worker redrive --action generate_report --since 2h --dry-run`
    """
    matching = RequestFilter(action=action, tenant=tenant, connection=connection, since=since)
    names = "--action, --tenant, --connection or --since"
    if request_id is not None:
        used = cancelled or dry_run or not matching.is_empty
        refuse_options(used=used, names=f"--cancelled, {names}")
        _redrive_one(request_id, config, as_json=as_json)
        return
    if matching.is_empty:
        require_selection(names)
    selection = Selection(
        matching=matching,
        statuses=[RequestStatus.FAILED, *([RequestStatus.CANCELLED] if cancelled else [])],
        limit=limit,
        dry_run=dry_run,
        yes=yes,
    )

    @asynccontextmanager
    async def redriving(stores: Stores) -> AsyncIterator[Change]:
        yield lambda ids, on_result: stores.requests.redrive_many(
            ids,
            statuses=selection.statuses,
            on_result=on_result,
            max_write_units=max_write_units,
        )

    changed = change_many(config, selection, _VERB, redriving)
    report_changed(changed, _VERB, selection, as_json=as_json)


def _redrive_one(text: str, config: ConfigOption, *, as_json: bool) -> None:
    async def work(stores: Stores) -> tuple[str, AsyncRequest]:
        return await change_request(stores, text, stores.requests.redrive, verb="redrive")

    request_id, request = with_stores(config, work)
    status = request.status
    if as_json:
        print_json({"dry_run": False, "redriven": [request_id], "refused": []})
    elif status is RequestStatus.PENDING:
        print_line(f"{request_id} is PENDING again")
    else:
        print_line(f"{request_id} was redriven, and is {status} now")
