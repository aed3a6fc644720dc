from __future__ import annotations

from dataclasses import asdict

import typer
from rich.console import Console

from streamer_store import Difference, Stores
from streamer_worker.cli.options import ConfigOption, JsonOption, tell_json, with_stores

cli = typer.Typer(help="Make and check the tables.", no_args_is_help=True)


@cli.command()
def create(config: ConfigOption = None) -> None:
    """Make the tables that are missing, and wait until they can be used.

    Tables that exist stay as they are; `tables check` tells how they differ.
    """

    async def work(stores: Stores) -> None:
        with Console(stderr=True).status("Making tables"):
            await stores.create_tables()

    with_stores(config, work)
    typer.echo("tables are ready")


@cli.command()
def check(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Compare the tables with what the worker expects; exit 1 when it could not work.

    Example: `streamer-worker tables check --json`
    """

    async def work(stores: Stores) -> list[Difference]:
        return await stores.check_tables()

    differences = with_stores(config, work)
    if as_json:
        tell_json([asdict(each) for each in differences])
    for each in () if as_json else differences:
        typer.echo(f"{'error' if each.blocking else 'warning'}: {each}")
    if any(each.blocking for each in differences):
        raise typer.Exit(1)
    if not as_json:
        typer.echo("tables are as the worker needs them")
