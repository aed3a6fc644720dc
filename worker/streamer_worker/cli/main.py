from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from streamer_store import StoreError
from streamer_worker.cli import (
    checking,
    config,
    connections,
    demo,
    faults,
    handlers,
    listing,
    output,
    redriving,
    requests,
    run,
    tables,
    watching,
    workers,
)
from streamer_worker.cli.group import Group
from streamer_worker.errors import StartError

cli = typer.Typer(
    cls=Group,
    name="streamer-worker",
    help="Background worker for requests queued in DynamoDB.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
cli.command("run")(run.run)
cli.command("enqueue")(requests.enqueue)
cli.command("list")(listing.list_requests)
cli.command("show")(requests.show)
cli.command("watch")(watching.watch)
cli.command("cancel")(requests.cancel)
cli.command("redrive")(redriving.redrive)
cli.command("workers")(workers.workers)
cli.command("drain")(workers.drain)
cli.add_typer(connections.cli, name="connections")
cli.command("handlers")(handlers.handlers)
cli.add_typer(tables.cli, name="tables")
cli.command("check")(checking.check)
cli.command("config")(config.config)
cli.command("demo")(demo.demo)


def _print_version(requested: bool | None) -> None:  # noqa: FBT001  typer's callback
    if requested:
        output.print_line(version("streamer-worker"))
        raise typer.Exit


@cli.callback()
def _options(
    *,
    _version: Annotated[
        bool | None,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version),
    ] = None,
) -> None:
    pass


def main() -> None:
    """Run a command.

    Errors are printed on stderr in one line. The exit code is 1 if the work failed, and 2 if the
    command line, the settings or the handlers are wrong.
    """
    output.accept_any_character()
    try:
        cli()
    except (StartError, StoreError, BaseExceptionGroup) as error:
        code = faults.exit_code_of(error)
        if code is not None:
            faults.report(error)
            sys.exit(code)
        if isinstance(cause := faults.unwrap(error), SystemExit):
            sys.exit(cause.code)  # rich raises it when the other end of a pipe is closed
        raise
