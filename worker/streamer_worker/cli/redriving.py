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
from streamer_worker.cli.listing import ActionOption, TenantOption, Wanted
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    SinceOption,
    YesOption,
    with_stores,
)
from streamer_worker.cli.output import confirm_many, progress_bar, say, tell_json

_AT_ONCE: Final = 10
_INSTEAD: Final = "give --yes to redrive them, or --dry-run to list them"


def redrive(
    request_id: Annotated[
        str | None, typer.Argument(help="One request: FAILED or CANCELLED.")
    ] = None,
    *,
    action: ActionOption = None,
    tenant: TenantOption = None,
    since: SinceOption = None,
    cancelled: Annotated[
        bool, typer.Option("--cancelled", help="CANCELLED requests, too, not only FAILED ones.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="At most so many, the newest first.")
    ] = 1000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which would run again, and change nothing.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a FAILED or CANCELLED request wait again, with all its attempts and its checkpoint.

    Without an id: all failed ones of an action, since a time, or both. More than one is changed
    only after a question, or with --yes. Exits with 1 when the one that is named cannot run
    again, and with 2 when there is no terminal to ask.

    Examples: `streamer-worker redrive 3f6c…`,
    `streamer-worker redrive --action generate_report --since 2h --dry-run`
    """
    if request_id is not None:
        if action or tenant or since or cancelled or dry_run:
            raise typer.BadParameter("an id stands alone: what else is given chooses among many")
        _redrive_one(request_id, config, as_json=as_json)
        return
    if action is None and tenant is None and since is None:
        raise typer.BadParameter("name a request, or choose some with --action, --tenant, --since")
    wanted = Wanted(action=action, tenant=tenant, since=since)
    statuses = [RequestStatus.FAILED, *([RequestStatus.CANCELLED] if cancelled else [])]

    async def work(stores: Stores) -> tuple[list[str], list[str]]:
        ids = await _ids(stores, wanted, statuses, limit)
        if dry_run:
            return ids, []
        if len(ids) > 1:
            confirm_many(f"Redrive {len(ids)} requests?", yes=yes, instead=_INSTEAD)
        return await _redrive_all(stores, ids)

    redriven, skipped = with_stores(config, work)
    if as_json:
        tell_json({"dry_run": dry_run, "redriven": redriven, "skipped": skipped})
    else:
        _say_redriven(redriven, skipped, dry_run=dry_run, limit=limit)


def _say_redriven(redriven: list[str], skipped: list[str], *, dry_run: bool, limit: int) -> None:
    for each in redriven if dry_run else ():
        say(each)
    say(f"{'would be redriven' if dry_run else 'redriven'}: {len(redriven)}", err=dry_run)
    if skipped:
        say(f"have moved on meanwhile: {len(skipped)}", err=dry_run)
    if len(redriven) + len(skipped) == limit:
        say("that is the limit; there may be more: see --limit", err=True)


async def _ids(
    stores: Stores, wanted: Wanted, statuses: list[RequestStatus], limit: int
) -> list[str]:
    found: list[Candidate] = []
    for status in statuses:
        left = limit - len(found)
        found += [each async for each in wanted.entries(stores.requests, status, left)]
    return [each.request_id for each in found]


def _redrive_one(request_id: str, config: ConfigOption, *, as_json: bool) -> None:
    async def work(stores: Stores) -> RequestStatus:
        return (await stores.requests.redrive(request_id)).status

    status = with_stores(config, work)
    if as_json:
        tell_json({"dry_run": False, "redriven": [request_id], "skipped": []})
    elif status is RequestStatus.PENDING:
        say(f"{request_id} waits again")
    else:
        say(f"{request_id} is {status}: somebody has been faster")


async def _redrive_all(stores: Stores, ids: list[str]) -> tuple[list[str], list[str]]:
    redriven: set[str] = set()
    limiter = anyio.CapacityLimiter(_AT_ONCE)
    with progress_bar(err=True, transient=True) as bar:
        task = bar.add_task("redriving", total=len(ids))

        async def one(request_id: str) -> None:
            async with limiter:
                # What has moved on meanwhile is somebody else's wish.
                with suppress(RequestNotPending, NotFound, ConcurrentModification, Undecodable):
                    await stores.requests.redrive(request_id)
                    redriven.add(request_id)
                bar.advance(task)

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for each in ids:
                    tasks.start_soon(one, each)
    skipped = [each for each in ids if each not in redriven]
    return [each for each in ids if each in redriven], skipped
