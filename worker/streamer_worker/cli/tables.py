from __future__ import annotations

from dataclasses import asdict

import typer

from streamer_store import Difference, Stores
from streamer_worker.cli.group import MARKUP, Group
from streamer_worker.cli.options import ConfigOption, JsonOption, with_stores
from streamer_worker.cli.output import print_json, print_line, spinner

cli = typer.Typer(
    cls=Group,
    help="Create and check the DynamoDB tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=MARKUP,
)


@cli.command()
def create(config: ConfigOption = None) -> None:
    """Create the missing tables, and wait until they are active.

    Existing tables get DueIndex if they lack it. They serve meanwhile, and nothing else of them
    is changed. Differences from what the worker
    expects are printed, as by `tables check`. Exits with 1 if the worker cannot work with them.

    Example: `streamer-worker tables create`
    """

    async def work(stores: Stores) -> list[Difference]:
        with spinner("Creating tables"):
            await stores.create_tables()
            return await stores.check_tables()

    _report(with_stores(config, work), success="tables are ready")


@cli.command()
def check(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Compare the tables with what the worker expects, and print each difference.

    Exits with 1 if the worker cannot work with the tables.

    Example: `streamer-worker tables check --json`
    """

    async def work(stores: Stores) -> list[Difference]:
        return await stores.check_tables()

    differences = with_stores(config, work)
    if as_json:
        print_json([asdict(difference) for difference in differences])
        _exit_if_blocking(differences)
    else:
        _report(differences, success="tables have the keys and indexes that the worker needs")


def _report(differences: list[Difference], *, success: str) -> None:
    for difference in differences:
        print_line(f"{'error' if difference.blocking else 'warning'}: {difference}")
    _exit_if_blocking(differences)
    print_line(success)


def _exit_if_blocking(differences: list[Difference]) -> None:
    if any(difference.blocking for difference in differences):
        raise typer.Exit(1)
