from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from streamer_store import Connection, StaleSweep, Stores, SystemClock
from streamer_worker.cli.columns import Column
from streamer_worker.cli.formatting import age, counted, json_fields
from streamer_worker.cli.group import MARKUP, Group
from streamer_worker.cli.options import ConfigOption, JsonOption, YesOption, with_stores
from streamer_worker.cli.output import confirm_many, print_json, print_line, print_rows, spinner

cli = typer.Typer(
    cls=Group,
    help="List connections, and delete stale ones.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=MARKUP,
)

_WITHOUT_TERMINAL: Final = "give --yes to delete them, or --dry-run to count them"
_COLUMNS: Final = (
    Column(name="connection"),
    Column(name="user", can_cut=True),
    Column(name="tenant", can_cut=True),
    Column(name="connected"),
    Column(name="pinged"),
    Column(name="endpoint", can_cut=True),
)


def _parse_stale_after(text: str) -> float:
    """Return the seconds. The setting's limits apply, so that no live connection is stale."""
    from pydantic import ValidationError

    from streamer_worker.sanitize import pydantic_message
    from streamer_worker.settings import ReaperSettings

    try:
        return ReaperSettings.model_validate({"stale_after": text}).stale_after
    except ValidationError as error:
        raise typer.BadParameter(f"{text!r}: {pydantic_message(error.errors()[0])}") from error


@cli.command("list")
def list_connections(
    *,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Only connections of this user.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="ID", help="Only connections of this tenant.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Maximum number of connections.")
    ] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List open connections, in no particular order.

    Without --user and --tenant it scans the connections table.

    Example: `streamer-worker connections list --user u-17`
    """

    async def work(stores: Stores) -> list[Connection]:
        if user is not None:
            listed = await stores.connections.list_by_user(user)
        elif tenant is not None:
            listed = await stores.connections.list_by_tenant(tenant)
        else:
            scan = stores.connections.list_all(limit=limit)
            listed = [connection async for connection in scan]
        return [connection for connection in listed if tenant in {None, connection.tenant_id}][
            :limit
        ]

    connections = with_stores(config, work)
    clock = SystemClock()
    if as_json:
        print_json([json_fields(connection) for connection in connections])
    elif connections:
        print_rows(
            _COLUMNS, [_cells(connection, clock) for connection in connections], shorten=None
        )
    else:
        print_line("no matching connections")


@cli.command()
def reap(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the stale connections, and delete none.")
    ] = False,
    stale_after: Annotated[
        float | None,
        typer.Option(
            parser=_parse_stale_after,
            metavar="TIME",
            help="Time since the last ping after which a connection is stale. Default: the"
            " setting `reaper.stale_after`.",
        ),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Delete stale connections and their subscriptions, as the leader's reaper does.

    A connection that pings in the meantime is kept. The command asks for confirmation if more
    than one connection is stale. Exits with 1 if the answer is no, and with 2 if there is no
    terminal to ask on.

    Example: `streamer-worker connections reap --stale-after 1d --dry-run`
    """
    from streamer_worker.settings import load_settings

    seconds = stale_after or load_settings(config).reaper.stale_after

    async def work(stores: Stores) -> StaleSweep:
        before = SystemClock().now() - timedelta(seconds=seconds)
        if not dry_run and not yes:
            count = (await sweep(stores, before, dry_run=True)).found
            if count > 1:
                question = f"Delete {count} stale connections and their subscriptions?"
                confirm_many(question, yes=yes, without_terminal=_WITHOUT_TERMINAL)
        return await sweep(stores, before, dry_run=dry_run)

    async def sweep(stores: Stores, before: datetime, *, dry_run: bool) -> StaleSweep:
        with spinner("Reading the connections"):
            return await stores.connections.sweep_stale(before, dry_run=dry_run)

    swept = with_stores(config, work)
    if as_json:
        print_json({"dry_run": dry_run, **json_fields(swept)})
    else:
        print_line(_sweep_text(swept, dry_run=dry_run))


def _sweep_text(swept: StaleSweep, *, dry_run: bool) -> str:
    if dry_run:
        text = f"would delete {counted(swept.found, 'stale connection')}"
    else:
        text = f"deleted {counted(swept.deleted, 'connection')}"
        if swept.kept:
            text += f", kept {swept.kept} that pinged meanwhile"
    if swept.undecodable:
        text += f", skipped {swept.undecodable} that cannot be decoded"
    return text


def _cells(connection: Connection, clock: SystemClock) -> tuple[str, ...]:
    return (
        connection.connection_id,
        connection.user_id,
        connection.tenant_id,
        age(connection.connected_at, clock),
        age(connection.last_ping, clock),
        connection.endpoint,
    )
