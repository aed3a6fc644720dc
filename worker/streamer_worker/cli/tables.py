from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from streamer_store import Difference, TableNames
from streamer_worker.cli.group import MARKUP, Group
from streamer_worker.cli.options import ConfigOption, JsonOption, with_client
from streamer_worker.cli.output import print_json, print_line, spinner

if TYPE_CHECKING:
    from streamer_store.dynamo.client import CheckedClient
    from streamer_store.dynamo.protection import Protection
    from streamer_store.dynamo.tables import Changes

cli = typer.Typer(
    cls=Group,
    help="Create, check and protect the DynamoDB tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=MARKUP,
)
ProtectOption = Annotated[
    bool,
    typer.Option(
        "--protect", help="Enable point-in-time recovery and deletion protection on all tables."
    ),
]
FullProjectionOption = Annotated[
    bool,
    typer.Option(
        "--full-projection",
        help="Give new tables of requests a ConnectionIndex and a StatusIndex with all attributes,"
        " which the Go implementation's readers need. Each write of a request then also writes to"
        " both: one of 10 KB costs three times the write units (docs/operations.md).",
    ),
]


@cli.command()
def create(
    *,
    protect: ProtectOption = False,
    full_projection: FullProjectionOption = False,
    config: ConfigOption = None,
) -> None:
    """Create the missing tables, and wait until they are active.

    Existing tables get DueIndex if they lack it. They serve meanwhile, and nothing else of them
    is changed, except by --protect. Differences from what the worker expects are printed, as by
    `tables check`. Exits with 1 if the worker cannot work with them.

    Example: `streamer-worker tables create --protect`
    """
    from streamer_store.dynamo import protection, tables

    async def work(client: CheckedClient, names: TableNames) -> list[Difference]:
        with spinner("Creating tables"):
            changes = await tables.create(client, names, full_projection=full_projection)
        for line in _change_lines(changes):
            print_line(line)
        if protect:
            with spinner("Protecting tables"):
                protected = await protection.enable(client, names)
            print_protected(protected)
        return await tables.check(client, names)

    print_differences(with_client(config, work), success="tables are ready")


@cli.command()
def check(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Compare the tables with what the worker expects, and print each difference.

    Exits with 1 if the worker cannot work with the tables. It also prints whether point-in-time
    recovery is on, for how many days, and whether deletion protection is on.

    Example: `streamer-worker tables check --json`
    """
    from streamer_store.dynamo import protection, tables

    async def work(
        client: CheckedClient, names: TableNames
    ) -> tuple[list[Difference], list[Protection]]:
        return await tables.check(client, names), await protection.read(client, names)

    differences, protections = with_client(config, work)
    if as_json:
        print_json(
            {
                "differences": [asdict(difference) for difference in differences],
                "protection": [asdict(protected) for protected in protections],
            }
        )
        exit_if_blocking(differences)
        return
    for line in _protection_lines(protections):
        print_line(line)
    print_differences(differences, success="tables have the keys and indexes that the worker needs")


def print_protected(names: list[str]) -> None:
    """Print which tables `protection.enable` has protected."""
    if names:
        print_line(f"point-in-time recovery and deletion protection are on: {', '.join(names)}")


def print_differences(differences: Iterable[Difference], *, success: str) -> None:
    """Print each difference, and `success` or exit with 1 if one is blocking."""
    for difference in differences:
        print_line(f"{'error' if difference.blocking else 'warning'}: {difference}")
    exit_if_blocking(differences)
    print_line(success)


def exit_if_blocking(differences: Iterable[Difference]) -> None:
    if any(difference.blocking for difference in differences):
        raise typer.Exit(1)


def _change_lines(changes: Changes) -> Iterator[str]:
    if changes.created:
        yield f"created {', '.join(changes.created)}"
    if changes.indexed:
        yield f"added DueIndex to {', '.join(changes.indexed)}"
    if changes.slim_indexes:
        indexes = ", ".join(changes.slim_indexes)
        yield (
            f"not changed: {indexes}. A projection cannot be changed, so a reader of the index"
            " alone gets requests without payload"
        )
    # That of a new table goes without saying.
    if enabled := [name for name in changes.ttl_enabled if name not in changes.created]:
        yield f"enabled TTL on {', '.join(enabled)}"


def _protection_lines(protections: list[Protection]) -> list[str]:
    """Return one line if all tables are protected alike, and otherwise one for each table."""
    texts = {str(protected) for protected in protections}
    if len(texts) == 1:
        return list(texts)
    return [f"table {protected.table}: {protected}" for protected in protections]
