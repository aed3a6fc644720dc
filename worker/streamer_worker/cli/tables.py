from __future__ import annotations

from dataclasses import asdict

import typer

from streamer_store import Difference, Stores
from streamer_worker.cli.options import ConfigOption, JsonOption, with_stores
from streamer_worker.cli.output import say, status, tell_json

cli = typer.Typer(help="Make and check the tables.", no_args_is_help=True)


@cli.command()
def create(config: ConfigOption = None) -> None:
    """Make the tables that are missing, and wait until they can be used.

    Tables that exist keep their keys and indexes. How they differ is printed, as by
    `tables check`; exit 1 when the worker could not work with them.
    """

    async def work(stores: Stores) -> list[Difference]:
        with status("Making tables"):
            await stores.create_tables()
            return await stores.check_tables()

    _judge(with_stores(config, work), well="tables are ready")


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
        _exit_if_blocking(differences)
    else:
        _judge(differences, well="tables are as the worker needs them")


def _judge(differences: list[Difference], *, well: str) -> None:
    for each in differences:
        say(f"{'error' if each.blocking else 'warning'}: {each}")
    _exit_if_blocking(differences)
    say(well)


def _exit_if_blocking(differences: list[Difference]) -> None:
    if any(each.blocking for each in differences):
        raise typer.Exit(1)
