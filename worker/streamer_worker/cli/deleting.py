from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Final

import typer

from streamer_store import BulkResult, RequestStatus, Stores
from streamer_store.transitions import TERMINAL
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
    TenantOption,
    YesOption,
    parse_time,
    status_option,
    with_stores,
)
from streamer_worker.cli.output import print_json, print_line
from streamer_worker.cli.selecting import RequestFilter

_VERB: Final = Verb(infinitive="delete", past="deleted")
_ENDED: Final = sorted(TERMINAL)


def delete(
    request_id: Annotated[
        str | None,
        typer.Argument(
            help="Id of a COMPLETED, FAILED or CANCELLED request, or the first characters of it."
        ),
    ] = None,
    *,
    status: Annotated[list[RequestStatus] | None, status_option(_ENDED)] = None,
    action: ActionOption = None,
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    older_than: Annotated[
        datetime | None,
        typer.Option(
            "--older-than",
            parser=parse_time,
            metavar="TIME",
            help="Only requests created more than 3d or 12h ago, or before 2026-01-31T12:00 (UTC).",
        ),
    ] = None,
    limit: LimitOption = 1_000_000,
    max_write_units: MaxWriteUnitsOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Delete requests that have ended, before their TTL does.

    Name one request by its id or the beginning of it, or select some by --status, --action,
    --tenant, --connection, --older-than, or several of these. A request that waits or runs is
    never deleted: `cancel` ends it. The command asks for confirmation if the id is not whole, or
    if more than one request is selected. Exits with 1 if a request cannot be deleted or the
    answer is no, and with 2 if there is no terminal to ask on.

    Example: `streamer-worker delete --status completed --older-than 3d --dry-run`
    """
    matching = RequestFilter(action=action, tenant=tenant, connection=connection, until=older_than)
    names = "--status, --action, --tenant, --connection or --older-than"
    if request_id is not None:
        used = bool(status) or dry_run or not matching.is_empty
        refuse_options(used=used, names=names)
        _delete_one(request_id, config, as_json=as_json)
        return
    if not status and matching.is_empty:
        require_selection(names)
    if unended := set(status or ()) - TERMINAL:
        raise typer.BadParameter(
            f"requests that are {min(unended)} have not ended; `cancel` ends them",
            param_hint="--status",
        )
    statuses = status or _ENDED
    selection = Selection(
        matching=matching,
        statuses=statuses,
        limit=limit,
        dry_run=dry_run,
        yes=yes,
        newest_first=False,
    )

    @asynccontextmanager
    async def deleting(stores: Stores) -> AsyncIterator[Change]:
        yield lambda ids, on_result: stores.requests.delete_many(
            ids, statuses=statuses, on_result=on_result, max_write_units=max_write_units
        )

    changed = change_many(config, selection, _VERB, deleting)
    report_changed(changed, _VERB, selection, as_json=as_json)


def _delete_one(text: str, config: ConfigOption, *, as_json: bool) -> None:
    async def work(stores: Stores) -> str:
        async def change(request_id: str) -> None:
            results: list[BulkResult[None]] = []
            await stores.requests.delete_many(
                [request_id], statuses=_ENDED, on_result=results.append
            )
            if (error := results[0].error) is not None:
                raise error

        request_id, _ = await change_request(stores, text, change, verb="delete")
        return request_id

    request_id = with_stores(config, work)
    if as_json:
        print_json({"dry_run": False, "deleted": [request_id], "refused": []})
    else:
        print_line(f"deleted {request_id}")
