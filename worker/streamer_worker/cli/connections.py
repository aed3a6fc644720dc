from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from streamer_store import Connection, StaleSweep, Stores, SystemClock
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    YesOption,
    age,
    plain_fields,
    with_stores,
)
from streamer_worker.cli.output import confirm_many, print_table, say, status, tell_json
from streamer_worker.settings import ReaperSettings, load_settings

cli = typer.Typer(help="List connections, and remove those that went silent.", no_args_is_help=True)


def _stale_after(text: str) -> float:
    """Read it as the setting is read: a second would remove all who live."""
    try:
        return ReaperSettings.model_validate({"stale_after": text}).stale_after
    except ValidationError as error:
        raise typer.BadParameter(f"{text!r}: {error.errors()[0]['msg']}") from error


_INSTEAD: Final = "give --yes to remove them, or --dry-run to count them"
_COLUMNS = ("connection", "user", "tenant", "connected", "last ping", "endpoint")


@cli.command("list")
def list_connections(
    *,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List open connections, in no order; without a user or a tenant the table is read.

    Example: `streamer-worker connections list --user u-17`
    """

    async def work(stores: Stores) -> list[Connection]:
        if user is not None:
            found = await stores.connections.list_by_user(user)
        elif tenant is not None:
            found = await stores.connections.list_by_tenant(tenant)
        else:
            found = [each async for each in stores.connections.list_all(limit=limit)]
        return [each for each in found if tenant in {None, each.tenant_id}][:limit]

    found = with_stores(config, work)
    clock = SystemClock()
    if as_json:
        tell_json([plain_fields(each) for each in found])
    elif found:
        print_table(
            _COLUMNS,
            (
                (
                    each.connection_id,
                    each.user_id,
                    each.tenant_id,
                    age(each.connected_at, clock),
                    age(each.last_ping, clock),
                    each.endpoint,
                )
                for each in found
            ),
        )
    else:
        say("no such connections")


@cli.command()
def reap(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count them, and remove nothing.")
    ] = False,
    stale_after: Annotated[
        float | None,
        typer.Option(
            parser=_stale_after,
            metavar="TIME",
            help="Silence after which one is stale; as `reaper.stale_after` says, unless given.",
        ),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Remove the connections that went silent, with their subscriptions, as the leader does
    every few minutes. One that pings meanwhile stays.

    More than one is removed only after a question, or with --yes. Exits with 2 when there is no
    terminal to ask.

    Example: `streamer-worker connections reap --stale-after 1d --dry-run`
    """
    silence = stale_after or load_settings(config).reaper.stale_after

    async def work(stores: Stores) -> StaleSweep:
        before = SystemClock().now() - timedelta(seconds=silence)
        if not dry_run and not yes:
            count = (await sweep(stores, before, dry_run=True)).found
            if count > 1:
                question = f"Remove {count} stale connections and their subscriptions?"
                confirm_many(question, yes=yes, instead=_INSTEAD)
        return await sweep(stores, before, dry_run=dry_run)

    async def sweep(stores: Stores, before: datetime, *, dry_run: bool) -> StaleSweep:
        with status("Reading the connections"):
            return await stores.connections.sweep_stale(before, dry_run=dry_run)

    swept = with_stores(config, work)
    if as_json:
        tell_json({"dry_run": dry_run, **plain_fields(swept)})
        return
    what = f"{swept.found} would go" if dry_run else f"{swept.deleted} went, {swept.kept} stayed"
    broken = f"; {swept.undecodable} cannot be read" if swept.undecodable else ""
    say(what + broken)
